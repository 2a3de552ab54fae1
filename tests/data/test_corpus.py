"""Documents from files: every bad line is refused with its place, reason and remedy."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_es.data.corpus import parse_document, read_documents
from splade_es.errors import CorpusError
from splade_es.records import Document, Rejected


def read(path: Path) -> list[Document | Rejected]:
    return list(read_documents(str(path)))


def corpus(tmp_path: Path, *lines: str | bytes) -> Path:
    path = tmp_path / "corpus.jsonl"
    encoded = (line.encode() if isinstance(line, str) else line for line in lines)
    path.write_bytes(b"\n".join(encoded))
    return path


def test_ids_texts_titles_and_other_fields_are_read(tmp_path: Path) -> None:
    path = corpus(
        tmp_path,
        '{"_id": "a", "title": "T", "text": "x", "metadata": {"year": 1999}}',
        '{"_id": "b", "id": 7, "docid": "c", "text": "x", "contents": "kept"}',
        '{"id": 12, "contents": "x", "title": null}',
        '{"docid": "d", "text": ""}\r',
    )
    assert read(path) == [
        Document("a", "x", "T", {"metadata": {"year": 1999}}, f"{path}:1"),
        Document("b", "x", "", {"id": 7, "docid": "c", "contents": "kept"}, f"{path}:2"),
        Document("12", "x", "", {}, f"{path}:3"),
        Document("d", "", "", {}, f"{path}:4"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            '{"_id": "a", "text": "x"',
            "broken JSON at column 25: Expecting ',' delimiter; write one object on each line",
        ),
        ("[1, 2]", "an array, not an object; write one object on each line"),
        ("null", "null, not an object; write one object on each line"),
        ('{"text": "x"}', 'no id; give each line an "_id", "id" or "docid"'),
        ('{"_id": "", "text": "x"}', '"_id" is empty; give each document an id of its own'),
        ('{"_id": true, "text": ""}', '"_id" is a boolean; make it a string or an integer'),
        ('{"id": 1.5, "text": ""}', '"id" is a number; make it a string or an integer'),
        ('{"_id": null, "id": 1}', '"_id" is null; make it a string or an integer'),
        (f'{{"docid": "{"é" * 257}"}}', '"docid" has 514 bytes; shorten it to 512 or fewer'),
        ('{"id": 1, "title": "x"}', 'no text; give each line a "text" or "contents"'),
        ('{"id": 1, "text": null}', '"text" is null; make it a string'),
        ('{"id": 1, "contents": ["x"]}', '"contents" is an array; make it a string'),
        ('{"id": 1, "text": "x", "title": 5}', '"title" is a number; make it a string'),
        (
            '{"id": 1, "text": "x", "splade_n": 5}',
            'field "splade_n" is reserved; rename what starts with "splade"',
        ),
        ('{"id": 1, "id": 2, "text": "x"}', '"id" is given twice; keep one'),
        ('{"id": 1, "text": "", "m": {"k": 1, "k": 1}}', '"k" is given twice; keep one'),
        ('{"id": 1, "text": "", "n": NaN}', "NaN is not JSON; use null, or leave the field out"),
        (
            '{"id": 1, "text": "", "n": -Infinity}',
            "-Infinity is not JSON; use null, or leave the field out",
        ),
        ('{"id": 1, "n": 1e999}', "1e999 is too large a number; write it as a string"),
        (f'{{"id": {"9" * 5000}}}', "a number of 5000 digits; write it as a string"),
        ("[" * 100_000, "nested too deeply; flatten the object"),
        (
            r'{"id": 1, "text": "a \ud83d b"}',
            r"lone surrogate \ud83d; write the pair, or leave it out",
        ),
        (
            b'{"id": 1, "text": "caf\xe9"}',
            "not UTF-8 at byte 23; convert the file with iconv -t UTF-8",
        ),
    ],
)
def test_a_bad_line_is_refused_and_reading_goes_on(
    tmp_path: Path, line: str | bytes, reason: str
) -> None:
    good = '{"_id": "good", "text": "x"}'
    path = corpus(tmp_path, good, "", line, good)
    shown = line if isinstance(line, str) else r'{"id": 1, "text": "caf\xe9"}'
    assert read(path) == [
        Document("good", "x", place=f"{path}:1"),
        Rejected(f"{path}:3", reason, shown),
        Document("good", "x", place=f"{path}:4"),
    ]


def test_a_surrogate_pair_and_an_id_of_512_bytes_are_fine() -> None:
    line = json.dumps({"id": "é" * 256, "text": "\N{WHITE SMILING FACE}\N{GRINNING FACE}"})
    assert r"\ud83d" in line
    assert parse_document(line.encode(), "p").text == "\N{WHITE SMILING FACE}\N{GRINNING FACE}"


@given(st.binary() | st.text().map(str.encode))
def test_any_line_is_a_document_or_a_reason(line: bytes) -> None:
    try:
        parse_document(line, "p")
    except ValueError as exc:
        assert "; " in str(exc)


@given(st.text(min_size=1, max_size=100), st.text(), st.text(), st.booleans())
def test_what_json_wrote_is_read_unchanged(id: str, title: str, text: str, ascii: bool) -> None:
    line = json.dumps({"_id": id, "title": title, "text": text}, ensure_ascii=ascii).encode()
    assert parse_document(line, "p") == Document(id, text, title, {}, "p")


def test_gzip_is_known_by_its_bytes_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"_id": "a", "text": "x"}\n\n{"_id": "b", "text": "y"}'
    path = tmp_path / "no-suffix"
    path.write_bytes(gzip.compress(content[:10]) + gzip.compress(content[10:]))
    assert read(path) == [
        Document("a", "x", place=f"{path}:1"),
        Document("b", "y", place=f"{path}:3"),
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_is_read_and_left_open(
    monkeypatch: pytest.MonkeyPatch, pack: type[bytes]
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(pack(b'{"_id": "a", "text": "x"}\nnonsense\n')))
    monkeypatch.setattr(sys, "stdin", stdin)
    document, rejected = read_documents("-")
    assert document == Document("a", "x", place="stdin:1")
    assert rejected.place == "stdin:2"
    assert not stdin.closed and not stdin.buffer.closed


def test_a_beir_directory_stands_for_its_corpus(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"_id": "a", "text": "zipped"}'))
    assert read(tmp_path) == [Document("a", "zipped", place=f"{path}:1")]
    plain = corpus(tmp_path, '{"_id": "a", "text": "plain"}')
    assert read(tmp_path) == [Document("a", "plain", place=f"{plain}:1")]


def test_an_empty_corpus_has_no_documents(tmp_path: Path) -> None:
    assert read(corpus(tmp_path)) == []
    assert read(corpus(tmp_path, "", "  ", "")) == []


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        read_documents(str(tmp_path / "none.jsonl"))  # before the first item is asked for
    assert str(caught.value) == (
        f"{tmp_path}/none.jsonl: no such file. Check the path, or use - for standard input."
    )
    with pytest.raises(CorpusError) as caught:
        read_documents(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: a directory without corpus.jsonl. "
        "Give a JSON Lines file, a directory in BEIR layout, or a folder of vectors."
    )


def test_a_gzip_file_cut_short_gives_what_is_whole_and_then_says_so(tmp_path: Path) -> None:
    lines = [json.dumps({"_id": str(n), "text": f"text {n * n}"}) for n in range(5000)]
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode())[:-2000])
    documents = read_documents(str(path))
    assert next(documents) == Document("0", "text 0", place=f"{path}:1")
    with pytest.raises(CorpusError) as caught:
        last = [item.place for item in documents][-1]
        pytest.fail(f"read on to {last}")
    assert str(caught.value).startswith(f"{path}:")
    assert str(caught.value).endswith(
        "the gzip file is damaged or cut short (Compressed file ended before the end-of-stream "
        "marker was reached). Copy or download it again."
    )


def test_a_text_of_10_megabytes_is_a_document(tmp_path: Path) -> None:
    text = "word " * 2_000_000
    path = corpus(tmp_path, json.dumps({"_id": "long", "text": text}), '{"_id": "b", "text": ""}')
    assert read(path) == [
        Document("long", text, place=f"{path}:1"),
        Document("b", "", place=f"{path}:2"),
    ]


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = corpus(tmp_path, b"x" * (20 * 2**20), '{"_id": "b", "text": ""}')
    tracemalloc.start()
    rejected, document = read_documents(str(path), max_line_bytes=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(rejected, Rejected)
    assert (rejected.place, rejected.reason) == (
        f"{path}:1",
        "longer than 1 MB; split the document",
    )
    assert document == Document("b", "", place=f"{path}:2")
    assert peak < 8 * 2**20
