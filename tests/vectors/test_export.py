"""Vectors written for other engines, and read back as those read them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

import splade_es
from command_line import error, run
from models import WORDS
from splade_es.data.rejects import Rejects
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import CorpusError, SettingsError
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded
from splade_es.vectors.encode import encode_documents
from splade_es.vectors.export import Format

DOCUMENTS = [
    Document("a", "heart attack", "Title"),
    Document("empty", "☃"),
    *(Document(str(n), " ".join(WORDS[n : n + 9])) for n in range(4, 30)),
]


@pytest.fixture(scope="module")
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model)


@pytest.fixture
def folder(encoder: Encoder, tmp_path: Path) -> Path:
    corpus = tmp_path / "corpus.jsonl"
    records = [{"_id": d.id, "title": d.title, "text": d.text} for d in DOCUMENTS]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    splade_es.encode(corpus, tmp_path / "v", encoder, rejects=str(tmp_path / "rejects"))
    return tmp_path / "v"


def encoded(encoder: Encoder) -> list[Encoded]:
    return list(encode_documents(DOCUMENTS, encoder, Quantizer(), Rejects(io.StringIO())))


def exported(folder: Path, format: Format) -> Path:
    path = folder.parent / f"out.{format}"
    steps = list(splade_es.export_steps(folder, format, path))
    assert [step.documents for step in steps] == [*range(1, 29), 28]
    assert {step.total for step in steps} == {28}
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


def test_what_is_wrong_is_known_at_the_call(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        splade_es.export_steps(folder, "csv", tmp_path / "x")  # type: ignore[arg-type]
    assert str(caught.value) == "`format` is 'csv'. Choose one of anserini, jsonl, ciff, npz."
    with pytest.raises(CorpusError, match=r"meta\.json: cannot be read"):
        splade_es.export_steps(tmp_path, "npz", tmp_path / "x")


def test_the_command_exports(folder: Path, home: Path) -> None:
    result = run("export", folder, "--format", "jsonl", "--output", folder.parent / "x.jsonl")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{folder.parent}/x.jsonl: 28 documents\n"
    args = ("export", folder.parent, "--format", "jsonl", "--output", "x.jsonl")
    assert error(*args).startswith(f"{folder.parent}/meta.json: cannot be read (")
