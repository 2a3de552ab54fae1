"""Folders of vectors: written, interrupted, resumed, indexed; and exported for other engines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import run
from models import WORDS
from splade_es.data.rejects import Rejects, rejects_file
from splade_es.encoders.base import Precision
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import CorpusError
from splade_es.indexing.load import index_meta
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded, Rejected
from splade_es.training.loop import Progress
from splade_es.vectors.encode import encode_documents
from splade_es.vectors.export import Format, export
from splade_es.vectors.parquet import open_vectors, read_vectors, write_vectors

BAD = Rejected("c:3", "no id", "{}")
ITEMS: list[Document | Rejected] = [
    Document("a", "heart attack", "Title", {"year": 2020, "tags": ["x", None]}, "c:1"),
    Document("empty", "☃", place="c:2"),
    BAD,
    *(Document(str(n), " ".join(WORDS[n : n + 9]), place=f"c:{n}") for n in range(4, 30)),
    Rejected("c:31", "no text", "{}"),
]
DOCUMENTS = [item for item in ITEMS if isinstance(item, Document)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "_PART_DOCUMENTS", 10)


@pytest.fixture(scope="module")
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model)


def write(
    folder: Path,
    items: Sequence[Document | Rejected] | Iterator[Document | Rejected],
    encoder: Encoder,
    quantizer: Quantizer = Quantizer(),  # noqa: B008
    resume: bool = False,
    precision: Precision = "auto",
) -> tuple[int, int]:
    """Documents encoded, and rejects."""
    progress = Progress(0, 0)
    meta = index_meta(encoder, quantizer)
    with rejects_file(folder.parent / "rejects") as file:
        for progress in write_vectors(  # noqa: B007
            str(folder), items, encoder, quantizer, meta, file, resume=resume, precision=precision
        ):
            pass
    return progress.encoded, file.count


def same(folder: Path, expected: list[Encoded]) -> None:
    found = list(read_vectors(open_vectors(str(folder))))
    assert [e.document.id for e in found] == [e.document.id for e in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.document.title, ours.document.text) == (
            theirs.document.title, theirs.document.text,
        )  # fmt: skip
        assert dict(ours.document.fields) == dict(theirs.document.fields)
        assert ours.vector.ids.tolist() == theirs.vector.ids.tolist()
        assert ours.vector.values.tolist() == theirs.vector.values.tolist()


def encoded(encoder: Encoder) -> list[Encoded]:
    return list(encode_documents(ITEMS, encoder, Quantizer(), Rejects(io.StringIO())))


def test_rejects_are_told_when_they_are_read(encoder: Encoder) -> None:
    rejects = Rejects(io.StringIO())
    found = list(encode_documents(ITEMS, encoder, Quantizer(), rejects))
    assert [item.document for item in found] == DOCUMENTS
    assert (rejects.count, rejects.first) == (2, BAD)

    def endless() -> Iterator[Rejected]:
        while rejects.count < 10_000:
            yield BAD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(encode_documents(endless(), encoder, Quantizer(), rejects))
    with pytest.raises(CorpusError, match=r"^c:3: no id\. Reading stopped there\.$"):
        next(encode_documents([BAD], encoder, Quantizer(), Rejects(io.StringIO(), True)))


def test_what_is_written_is_read(encoder: Encoder, tmp_path: Path) -> None:
    assert write(tmp_path / "v", ITEMS, encoder) == (28, 2)
    assert len((tmp_path / "rejects").read_text().splitlines()) == 2
    folder = open_vectors(str(tmp_path / "v"))
    assert folder.documents == 28 and folder.vocabulary == encoder.vocabulary
    assert folder.meta == index_meta(encoder, Quantizer())
    parts = sorted(path.name for path in (tmp_path / "v").glob("part*"))
    assert parts == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    same(tmp_path / "v", encoded(encoder))
    with pytest.raises(CorpusError, match=r"vectors are there already\. Go on with them by --res"):
        write(tmp_path / "v", ITEMS, encoder)


@pytest.mark.parametrize("stop", [1, 10, 14, 29])
def test_an_interrupted_encoding_goes_on_where_it_stopped(
    encoder: Encoder, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(items: Sequence[Document | Rejected]) -> Iterator[Document | Rejected]:
        yield from items
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "splade_es.encoders.torch_encoder._WINDOW_CHARACTERS", 1
    )  # each text by itself
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "v", interrupted(ITEMS[:stop]), encoder)
    with pytest.raises(CorpusError, match="its encoding has not ended"):
        open_vectors(str(tmp_path / "v"))
    again, _ = write(tmp_path / "v", ITEMS, encoder, resume=True)
    assert again < 28 or stop < 3  # one text is tokenised ahead
    same(tmp_path / "v", encoded(encoder))
    # and nothing happens once it is complete; rejects are told again
    assert write(tmp_path / "v", ITEMS, encoder, resume=True) == (0, 2)
    # a corpus that has grown is another matter until its end is reached
    grown = [*ITEMS, Document("new", "heart"), Document("newer", "bone")]
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "v", interrupted(grown), encoder, resume=True)
    with pytest.raises(CorpusError, match="its encoding has not ended"):
        open_vectors(str(tmp_path / "v"))
    write(tmp_path / "v", grown, encoder, resume=True)
    assert open_vectors(str(tmp_path / "v")).documents == 30


def test_another_corpus_model_or_setting_is_not_mixed_in(encoder: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "v"
    write(folder, ITEMS, encoder)
    with pytest.raises(CorpusError, match=r"^c:2: 'empty', where .*v goes on with 'a'\. Resume"):
        write(folder, ITEMS[1:], encoder, resume=True)
    with pytest.raises(CorpusError, match=r"The corpus ends where .*v goes on with '29'"):
        write(folder, ITEMS[:-2], encoder, resume=True)
    with pytest.raises(CorpusError, match="begun with another scale"):
        write(folder, ITEMS, encoder, Quantizer(50.0), resume=True)
    with pytest.raises(CorpusError, match="begun with another top_k"):
        write(folder, ITEMS, encoder, Quantizer(top_k=3), resume=True)
    with pytest.raises(CorpusError, match="begun with another precision"):
        write(folder, ITEMS, encoder, resume=True, precision="int8")
    other = [Document("a", "bone", "Title"), *ITEMS[1:]]
    with pytest.raises(CorpusError, match=r"'a' has another text than in .*v"):
        write(folder, other, encoder, resume=True)
    assert open_vectors(str(folder)).documents == 28  # none of it harmed what is there
    (folder / "part-00001.parquet").unlink()
    with pytest.raises(CorpusError, match="18 documents where there were 28"):
        open_vectors(str(folder))
    (folder / "part-00000.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(CorpusError, match=r"part-00000\.parquet: cannot be read"):
        open_vectors(str(folder))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(CorpusError, match="there is something else in it"):
        write(tmp_path / "other", ITEMS, encoder)


def test_vectors_are_indexed_without_the_model(
    tiny_model: str, corpus_file: Path, home: Path
) -> None:
    """The same hits with the same scores as from the corpus itself."""
    result = run("encode", corpus_file, "--model", tiny_model, "--output", "v", "--scale", 50)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("v: 5 documents, 5 of them encoded now, 0 rejected; ")
    result = run("encode", corpus_file, "--model", tiny_model, "--output", "v", "--scale", 50,
                 "--resume", "--json")  # fmt: skip
    assert json.loads(result.stdout)["encoded"] == 0
    assert run("index", "v", "--index", "a").exit_code == 0
    run("index", corpus_file, "--model", tiny_model, "--index", "b", "--scale", 50)
    found: list[list[Any]] = []
    for name in "ab":
        lines = run("search", "heart pain", "--index", name, "--json").stdout.splitlines()
        found.append([json.loads(line) for line in lines])
        for hit in found[-1]:
            del hit["source"]["splade_at"]
    assert found[0] == found[1] and len(found[0]) == 5

    result = run("index", "v", "--index", "a", "--max-length", 9)
    assert result.exit_code == 2
    assert "v holds vectors, made by `splade-es encode`: --max-length would change nothing" in (
        result.stderr
    )
    result = run("index", corpus_file, "--index", "a")
    assert result.exit_code == 2 and "Missing option '--model'" in result.stderr
    result = run("index", corpus_file, "--index", "a", "--model", tiny_model, "--scale", 0)
    assert result.exit_code == 1 and "The scale of stored weights is 0.0" in result.stderr


@pytest.fixture
def folder(encoder: Encoder, tmp_path: Path) -> Path:
    write(tmp_path / "v", ITEMS, encoder)
    return tmp_path / "v"


def exported(folder: Path, format: Format) -> Path:
    path = folder.parent / f"out.{format}"
    counts = list(export(open_vectors(str(folder)), format, str(path)))
    assert counts == list(range(1, 29))
    return path


def test_export_to_anserini(folder: Path, encoder: Encoder) -> None:
    lines = [json.loads(x) for x in exported(folder, "anserini").read_text().splitlines()]
    for line, item in zip(lines, encoded(encoder), strict=True):
        assert line["id"] == item.document.id and line["contents"] == item.document.body
        tokens = [encoder.vocabulary[id] for id in item.vector.ids]
        assert line["vector"] == dict(zip(tokens, item.vector.values.tolist(), strict=True))


def test_export_to_lines_of_ids_and_weights(folder: Path, encoder: Encoder) -> None:
    lines = [json.loads(x) for x in exported(folder, "jsonl").read_text().splitlines()]
    for line, item in zip(lines, encoded(encoder), strict=True):
        assert (line["_id"], line["indices"]) == (item.document.id, item.vector.ids.tolist())
        assert line["values"] == [value / 100 for value in item.vector.values.tolist()]


def test_export_to_scipy(folder: Path, encoder: Encoder) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    path = exported(folder, "npz")
    matrix = sparse.load_npz(path)
    assert matrix.shape == (28, len(encoder.vocabulary))
    for row, item in zip(matrix, encoded(encoder), strict=True):
        assert row.indices.tolist() == item.vector.ids.tolist()
        assert row.data.tolist() == item.vector.values.tolist()
    with np.load(path) as file:
        assert file["ids"].tolist() == [d.id for d in DOCUMENTS]
        assert file["vocabulary"].tolist() == encoder.vocabulary


def test_export_to_ciff(folder: Path, encoder: Encoder) -> None:
    """Read back by the fields of its specification, CommonIndexFileFormat.proto."""
    data = exported(folder, "ciff").read_bytes()
    messages = []
    while data:
        size, data = varint(data)
        messages.append(fields(data[:size]))
        data = data[size:]
    header, rest = messages[0], messages[1:]
    items = encoded(encoder)
    lengths = [int(item.vector.values.sum()) for item in items]
    assert header[1] == [1] and header[3] == header[5] == [28]
    assert header[6] == [sum(lengths)] and header[8][0].startswith(b"splade-es")
    assert np.frombuffer(header[7][0], "<f8") == pytest.approx(sum(lengths) / 28)
    postings, records = rest[: header[2][0]], rest[header[2][0] :]
    assert header[2] == header[4] == [len(postings)]
    assert [m.get(1, [0])[0] for m in records] == list(range(28))
    assert [m[2][0].decode() for m in records] == [item.document.id for item in items]
    assert [m.get(3, [0])[0] for m in records] == lengths
    assert [m[1][0] for m in postings] == sorted(m[1][0] for m in postings)

    found: dict[int, dict[str, int]] = {n: {} for n in range(28)}
    for message in postings:
        token, document = message[1][0].decode(), 0
        weights = []
        for posting in map(fields, message[4]):
            document += posting.get(1, [0])[0]
            weights.append(posting[2][0])
            found[document][token] = weights[-1]
        assert (message[2][0], message[3][0]) == (len(weights), sum(weights))
    for number, item in enumerate(items):
        tokens = [encoder.vocabulary[id] for id in item.vector.ids]
        assert found[number] == dict(zip(tokens, item.vector.values.tolist(), strict=True))


def varint(data: bytes) -> tuple[int, bytes]:
    value = 0
    for shift, byte in enumerate(data):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, data[shift + 1 :]
    raise ValueError


def fields(data: bytes) -> dict[int, list]:  # type: ignore[type-arg]
    """Field number -> values of a protobuf message: integers, or bytes of all else."""
    found: dict[int, list] = {}  # type: ignore[type-arg]
    while data:
        key, data = varint(data)
        kind = key & 7
        if kind == 0:
            value: object
            value, data = varint(data)
        else:
            size, data = (8, data) if kind == 1 else varint(data)
            value, data = data[:size], data[size:]
        found.setdefault(key >> 3, []).append(value)
    return found


def test_the_command_exports(folder: Path, home: Path) -> None:
    result = run("export", folder, "--format", "jsonl", "--output", folder.parent / "x.jsonl")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{folder.parent}/x.jsonl: 28 documents\n"
    result = run("export", folder.parent, "--format", "jsonl", "--output", "x.jsonl")
    assert result.exit_code == 1 and "meta.json: cannot be read" in result.stderr


def test_ctrl_c_says_how_to_go_on(
    tiny_model: str, corpus_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splade_es.encoders.torch_encoder._WINDOW_CHARACTERS", 1)
    read = vectors.encode_documents

    def interrupted(*args: Any) -> Iterator[Encoded]:
        yield from islice(read(*args), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(vectors, "encode_documents", interrupted)
    args = ("encode", corpus_file, "--model", tiny_model, "--output", "v")
    result = run(*args)
    assert result.exit_code == 130
    assert result.stderr == (
        "Interrupted: 2 documents were encoded and are in v. Go on with --resume.\n"
    )
    monkeypatch.undo()
    monkeypatch.chdir(home.parent)
    result = run(*args, "--resume")
    assert result.stdout.startswith("v: 5 documents, 3 of them encoded now")
