"""Folders of vectors: written, interrupted, resumed, indexed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import splade_es
from command_line import error, run
from models import WORDS
from splade_es.data.corpus import read_documents
from splade_es.data.rejects import Rejects
from splade_es.encoders.base import TextEncoder, make_index_meta
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import CorpusError, Interrupted, SettingsError
from splade_es.progress import EncodeProgress, follow
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded, Rejected, SparseRow
from splade_es.vectors.encode import encode_documents
from splade_es.vectors.folder import EncodeFolder
from splade_es.vectors.parquet import open_vectors, read_vectors

LINES = [
    '{"_id": "a", "title": "Title", "text": "heart attack", "year": 2020, "tags": ["x", null]}',
    '{"_id": "empty", "text": "☃"}',
    "{}",
    *(json.dumps({"_id": str(n), "text": " ".join(WORDS[n : n + 9])}) for n in range(4, 30)),
    '{"_id": "30"}',
]


class OneByOne(TextEncoder):
    """Encodes each text by itself, and is interrupted when it has encoded some."""

    def __init__(self, encoder: Encoder, stop: int) -> None:
        self.name, self.vocabulary = encoder.name, encoder.vocabulary
        self.max_length, self.pooling = encoder.max_length, encoder.pooling
        self._encoder, self._stop = encoder, stop

    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        for text in islice(texts, self._stop):
            yield from self._encoder.encode([text], with_sources=with_sources)
        raise KeyboardInterrupt

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return self._encoder.token_spans(text)


@pytest.fixture(scope="module")
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return save(tmp_path / "c", LINES)


def save(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def write(corpus: Path, encoder: TextEncoder, **settings: Any) -> EncodeProgress:
    """Encode a corpus into the folder v beside it, in parts of 10 documents."""
    settings = {"rejects": str(corpus.with_name("rejects")), **settings}
    folder = str(corpus.with_name("v"))
    task = EncodeFolder(str(corpus), folder, encoder, settings, part_documents=10)  # type: ignore[arg-type]
    return follow(task.steps(), None)


def expected(corpus: Path, encoder: Encoder) -> list[Encoded]:
    rejects = Rejects(io.StringIO())
    return list(encode_documents(read_documents(str(corpus)), encoder, Quantizer(), rejects))


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


def test_rejects_are_reported_when_they_are_read(corpus: Path, encoder: Encoder) -> None:
    rejects = Rejects(io.StringIO())
    items = list(read_documents(str(corpus)))
    found = list(encode_documents(items, encoder, Quantizer(), rejects))
    assert [item.document for item in found] == [i for i in items if isinstance(i, Document)]
    bad = items[2]
    assert isinstance(bad, Rejected) and (rejects.count, rejects.first) == (2, bad)

    def endless() -> Iterator[Rejected]:
        while rejects.count < 10_000:
            yield bad
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(encode_documents(endless(), encoder, Quantizer(), rejects))
    with pytest.raises(CorpusError, match=r"c:3: no id; give each line .*\. Reading stopped there"):
        next(encode_documents([bad], encoder, Quantizer(), Rejects(io.StringIO(), True)))


def test_what_is_written_is_read(corpus: Path, encoder: Encoder, tmp_path: Path) -> None:
    done = write(corpus, encoder)
    assert (done.documents, done.encoded, done.rejected, done.saturated) == (28, 28, 2, 0)
    assert done.first_rejected is not None and done.first_rejected.place == f"{corpus}:3"
    assert done.rejects == str(tmp_path / "rejects")
    assert len((tmp_path / "rejects").read_text().splitlines()) == 2
    folder = open_vectors(str(tmp_path / "v"))
    assert folder.documents == 28 and folder.vocabulary == encoder.vocabulary
    assert folder.meta == make_index_meta(encoder, 100.0)
    parts = sorted(path.name for path in (tmp_path / "v").glob("part*"))
    assert parts == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    same(tmp_path / "v", expected(corpus, encoder))


def test_what_is_wrong_is_known_at_the_call(corpus: Path, encoder: Encoder, tmp_path: Path) -> None:
    write(corpus, encoder)
    with pytest.raises(CorpusError, match=r"already contains vectors\. Continue with `resume`"):
        splade_es.encode_steps(corpus, tmp_path / "v", encoder)
    with pytest.raises(CorpusError, match=r"none\.jsonl: no such file"):
        splade_es.encode_steps(tmp_path / "none.jsonl", tmp_path / "w", encoder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(CorpusError, match="contains something other than vectors"):
            splade_es.encode_steps(corpus, tmp_path / "other", encoder, resume=resume)
    with pytest.raises(CorpusError, match="cannot be created"):
        splade_es.encode(corpus, corpus / "v", encoder, rejects=str(tmp_path / "rejects"))
    with pytest.raises(SettingsError, match="`max_length` has no effect on an encoder that is alr"):
        splade_es.encode_steps(corpus, tmp_path / "w", encoder, max_length=9)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("stop", [0, 1, 10, 14, 27])
def test_an_interrupted_encoding_continues_where_it_stopped(
    corpus: Path, encoder: Encoder, tmp_path: Path, stop: int
) -> None:
    folder = tmp_path / "v"
    with pytest.raises(Interrupted) as caught:
        write(corpus, OneByOne(encoder, stop))
    assert str(caught.value) == (
        f"Interrupted: {stop} documents were encoded and are in {folder}. Continue with `resume`."
    )
    with pytest.raises(CorpusError, match="its encoding has not ended"):
        open_vectors(str(folder))
    assert write(corpus, encoder, resume=True).encoded == 28 - stop
    same(folder, expected(corpus, encoder))
    # and nothing happens once it is complete; rejects are reported again
    done = write(corpus, encoder, resume=True)
    assert (done.documents, done.encoded, done.rejected) == (28, 0, 2)
    # with a corpus that has grown the folder is incomplete again until its end is reached
    more = [json.dumps({"_id": id, "text": "heart"}) for id in ("new", "newer")]
    save(corpus, [*LINES, *more])
    with pytest.raises(Interrupted):
        write(corpus, OneByOne(encoder, 1), resume=True)
    with pytest.raises(CorpusError, match="its encoding has not ended"):
        open_vectors(str(folder))
    assert write(corpus, encoder, resume=True).encoded == 1
    assert open_vectors(str(folder)).documents == 30


def test_another_corpus_model_or_setting_is_not_mixed_in(
    corpus: Path, encoder: Encoder, tiny_model: str, tmp_path: Path
) -> None:
    folder = tmp_path / "v"
    write(corpus, encoder)

    def resume(lines: list[str], **settings: Any) -> EncodeProgress:
        return write(save(corpus, lines), encoder, resume=True, **settings)

    with pytest.raises(CorpusError, match=r"c:1: 'empty', where .*v continues with 'a'\. Resume"):
        resume(LINES[1:])
    with pytest.raises(CorpusError, match=r"The corpus ends where .*v continues with '29'"):
        resume(LINES[:-2])
    with pytest.raises(CorpusError, match="begun with another scale"):
        resume(LINES, scale=50.0)
    with pytest.raises(CorpusError, match="begun with another top_k"):
        resume(LINES, top_k=3)
    with pytest.raises(CorpusError, match="begun with another precision"):
        write(corpus, Encoder.load(tiny_model, precision="bf16"), resume=True)
    with pytest.raises(CorpusError, match=r"'a' has another text than in .*v"):
        resume([LINES[0].replace("heart attack", "bone"), *LINES[1:]])
    assert open_vectors(str(folder)).documents == 28  # none of it harmed what is there
    (folder / "part-00001.parquet").unlink()
    with pytest.raises(CorpusError, match=r"there is no part-00001\.parquet, but part-00002\.parq"):
        open_vectors(str(folder))
    (folder / "part-00002.parquet").unlink()
    with pytest.raises(CorpusError, match="has 10 documents instead of 28"):
        open_vectors(str(folder))
    (folder / "part-00000.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(CorpusError, match=r"part-00000\.parquet: cannot be read"):
        open_vectors(str(folder))
    (folder / "meta.json").write_text("{}")
    with pytest.raises(CorpusError, match=r"meta\.json: not written by splade-es \('toolkit'\)"):
        open_vectors(str(folder))


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

    assert error("index", "v", "--index", "a", "--doc-length", 9, code=2) == (
        "v holds vectors that are encoded already: --doc-length would change nothing"
    )
    assert error("index", corpus_file, "--index", "a", code=2) == (
        "--model is missing. Name a directory or a hub model."
    )
    args = ("index", corpus_file, "--index", "a", "--model", tiny_model, "--scale", 0)
    assert error(*args) == "The scale of stored weights is 0.0. Set it above 0."


def test_ctrl_c_says_how_to_continue(
    tiny_model: str, corpus_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Encoder.encode

    def interrupted(self: Encoder, texts: Iterable[str]) -> Iterator[SparseRow]:
        yield from encode(self, list(islice(texts, 2)))
        raise KeyboardInterrupt

    args = ("encode", corpus_file, "--model", tiny_model, "--output", "v")
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", interrupted)
        result = run(*args)
    assert result.exit_code == 130
    assert result.stderr == (
        "Interrupted: 2 documents were encoded and are in v. Continue with --resume.\n"
    )
    result = run(*args, "--resume")
    assert result.stdout.startswith("v: 5 documents, 3 of them encoded now")


def test_two_writers_do_not_write_one_folder(corpus: Path, encoder: Encoder) -> None:
    def begin() -> EncodeFolder:
        settings: Any = {"rejects": str(corpus.with_name("rejects"))}
        return EncodeFolder(
            str(corpus), str(corpus.with_name("v")), encoder, settings, part_documents=10
        )

    late = begin()  # both look at the folder before either writes
    first = begin().steps()
    next(first)
    with pytest.raises(CorpusError, match="already contains vectors"):
        follow(late.steps(), None)
    with pytest.raises(CorpusError, match="another process is writing vectors into it"):
        write(corpus, encoder, resume=True)
    first.close()
    with pytest.raises(CorpusError, match="already contains vectors"):
        write(corpus, encoder)
    write(corpus, encoder, resume=True)
    same(corpus.with_name("v"), expected(corpus, encoder))


def test_a_vocabulary_of_other_vectors_is_refused(corpus: Path, encoder: Encoder) -> None:
    write(corpus, encoder)
    path = corpus.with_name("v") / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    with pytest.raises(CorpusError) as caught:
        open_vectors(path.parent)
    assert str(caught.value) == (
        f"{path}: not the vocabulary that the vectors were made with. Encode the corpus again."
    )
