"""Files of another kind are read, or named in one line before anything is made of them."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import lzma
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import error, run
from splade_es.data.corpus import open_corpus, read_documents
from splade_es.data.jsonl import read_lines
from splade_es.data.rejects import rejects_file
from splade_es.errors import CorpusError
from splade_es.records import Document, Rejected

TWO: list[dict[str, Any]] = [
    {"_id": "a", "text": 'x "]" \\'},
    {"_id": "b", "text": "é", "m": {"n": [1, {}]}},
]
LINES = "".join(json.dumps(record) + "\n" for record in TWO).encode()


def archive(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("corpus.jsonl", content)
    return file.getvalue()


def tar(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tarred:
        member = tarfile.TarInfo("corpus.jsonl")
        member.size = len(content)
        tarred.addfile(member, io.BytesIO(content))
    return file.getvalue()


def parquet(content: bytes) -> bytes:
    pa, pq = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    file = io.BytesIO()
    pq.write_table(pa.table({"_id": ["a"], "text": ["x"]}), file)
    return file.getvalue()


def items(path: Path) -> list[Document | Rejected]:
    return list(read_documents(str(path)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz", "corpus.csv"])
def test_compressed_files_are_read_whatever_their_name(
    tmp_path: Path, pack: Callable[[bytes], bytes], name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(pack(b"\xef\xbb\xbf" + LINES))
    expected = [("a", TWO[0]["text"]), ("b", TWO[1]["text"])]
    assert [(d.id, d.text) for d in items(path) if isinstance(d, Document)] == expected
    path.write_bytes(pack(LINES * 4000)[:-9])
    if pack is not bytes:
        with pytest.raises(CorpusError, match=rf"^{path}:\d+: the \w+ file is damaged or cut shor"):
            items(path)


def test_zstd_is_read_where_python_can_and_named_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "corpus.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00\x99\xe9\xd8\x51")  # an empty frame
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CorpusError) as caught:
        items(path)
    assert str(caught.value) == (
        f"{path}: compressed by zstd, which this Python cannot read. Run pip install "
        "backports.zstd, or unpack the file: zstd -d."
    )
    monkeypatch.undo()
    try:
        zstd = importlib.import_module("compression.zstd")
    except ImportError:
        zstd = pytest.importorskip("backports.zstd")
    path.write_bytes(zstd.compress(LINES))
    assert [item.place for item in items(path)] == [f"{path}:1", f"{path}:2"]
    path.write_bytes(zstd.compress(LINES * 4000)[:-9])
    with pytest.raises(CorpusError, match="the zstd file is damaged or cut short"):
        items(path)


ROWS = 'Write each row as a line {"_id": "...", "text": "..."}.'
OBJECTS = "Write each document as a JSON object on a line of its own."
BULK = b'{"index": {"_id": "a"}}\n{"text": "x"}\n{"create": {"_id": "b"}}\n{"text": "y"}\n'
EXPORT = b'{"_index":"old","_id":"a","_source":{"text":"x"}}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (archive(LINES), "a zip archive. Unpack it, and give the file that was in it."),
        (tar(LINES), "a tar archive. Unpack it, and give the file that was in it."),
        (
            parquet(LINES),
            "a Parquet file. Write its rows as JSON Lines, for example with to_json(..., "
            "orient='records', lines=True) of pandas.",
        ),
        (
            LINES.decode().encode("utf-16"),
            "UTF-16 instead of UTF-8. Convert it: iconv -f UTF-16 -t UTF-8.",
        ),
        (
            LINES.decode().encode("utf-16-le"),
            "not text, its byte 2 is zero. Give a text file in UTF-8.",
        ),
        (
            LINES.decode().encode("utf-32"),
            "UTF-32 instead of UTF-8. Convert it: iconv -f UTF-32 -t UTF-8.",
        ),
        (b"", "no documents in it. Check the file."),
        (gzip.compress(b"\n \n"), "no documents in it. Check the file."),
        (b"[]", "no documents in it. Check the file."),
        (b"id,text\n1,x\n", f"columns with commas between them instead of JSON Lines. {ROWS}"),
        (b"id\ttext\n1\tx\n", f"columns with tabs between them instead of JSON Lines. {ROWS}"),
        (b"<?xml?>\n<doc/>\n", f"XML or HTML instead of JSON Lines. {OBJECTS}"),
        (b"Once upon a time\n", f"plain text instead of JSON Lines. {OBJECTS}"),
        (
            json.dumps(TWO[0], indent=2).encode(),
            "JSON with an object on several lines instead of JSON Lines. Convert it: jq -c . {}.",
        ),
        (
            BULK,
            "requests of the bulk API, with an action before each document. "
            "Convert it: jq -cn 'inputs as $a | input + {{_id: $a[]._id}}' {}.",
        ),
        (
            EXPORT,
            'an export of an index, with each document in its "_source". '
            "Convert it: jq -c '._source + {{_id}}' {}.",
        ),
    ],
)
def test_another_kind_is_named_and_nothing_is_made(
    home: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    said = f"{path}: {said.format(path) if '{}' in said else said}"
    assert error("index", path, "--model", "none", "--index", "x") == said
    assert error("encode", path, "--model", "none", "--output", "v") == said
    assert not [p for p in tmp_path.iterdir() if p not in (path, home)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (archive(LINES), "a zip archive. "),
        (LINES.decode().encode("utf-16"), "UTF-16 instead of UTF-8. "),
        (b"id,text\n1,x\n", "neither JSON, nor columns with tabs, nor Parquet. "),
        (BULK, 'the format of a row with "index" is unknown'),
    ],
)
def test_another_kind_of_training_data_is_named_and_nothing_is_made(
    home: Path, tmp_path: Path, loaded: str, content: bytes, said: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    assert said in error("train", path, "--model", "none", "--output", "out")
    assert error("score", path, "--teacher", "none", "--output", "out").startswith(f"{path}")
    args = ("mine", path, "--index", loaded, "--model", "none", "--output", "out")
    assert error(*args).startswith(f"{path}")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("content", "ids"), [(BULK, "ab"), (EXPORT, "a")])
def test_what_the_message_says_converts_it(tmp_path: Path, content: bytes, ids: str) -> None:
    path = tmp_path / "export"
    path.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        open_corpus(str(path))
    command = caught.value.hint.removeprefix("Convert it: ").removesuffix(".")
    try:
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    except subprocess.CalledProcessError as failed:
        if failed.returncode == 127:
            pytest.skip("jq is not installed")
        raise
    (tmp_path / "corpus.jsonl").write_bytes(done.stdout)
    documents = items(tmp_path / "corpus.jsonl")
    assert [d.id for d in documents if isinstance(d, Document)] == [*ids]


def test_one_bad_line_first_does_not_make_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b"#id,text\n" + LINES)
    assert [type(item) for item in items(path)] == [Rejected, Document, Document]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf \n"])
def test_an_array_is_read_as_its_elements(tmp_path: Path, indent: int | None, mark: bytes) -> None:
    path = tmp_path / "corpus.json"
    path.write_bytes(mark + json.dumps(TWO, indent=indent, ensure_ascii=False).encode())
    assert items(path) == [
        Document("a", TWO[0]["text"], place=f"{path}, element 1"),
        Document("b", "é", "", {"m": {"n": [1, {}]}}, f"{path}, element 2"),
    ]


def test_a_bad_element_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "corpus.json"
    path.write_text('[{"_id": "a", "text": ""}, {"_id":\n "b" "text": ""}, 7, {"id": "c"} ]')
    document, broken, number, textless = items(path)
    assert isinstance(document, Document)
    assert (broken, number, textless) == (
        Rejected(
            f"{path}, element 2",
            "broken JSON at line 2, column 6: Expecting ',' delimiter; write one object on each "
            "line",
            '{"_id":\n "b" "text": ""}',
        ),
        Rejected(
            f"{path}, element 3", "a number, not an object; write one object on each line", "7"
        ),
        Rejected(
            f"{path}, element 4",
            'no text; give each line a "text" or "contents"',
            '{"id": "c"}',
        ),
    )


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("", "corpus.json: the JSON array is cut short after element 1. Copy or download it again"),
        ('] {"_id": "b"}', "element 2: something follows the end of the JSON array. Give one arr"),
    ],
)
def test_an_array_without_its_own_end_is_an_error(tmp_path: Path, end: str, said: str) -> None:
    path = tmp_path / "corpus.json"
    path.write_text('[{"_id": "a", "text": ""}, {"_id": "b", "text": ""}' + end)
    documents = read_documents(str(path))
    assert isinstance(next(documents), Document)
    with pytest.raises(CorpusError, match=said):
        list(documents)


@pytest.mark.parametrize("cut", range(1, 60))
def test_where_a_chunk_ends_does_not_matter(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "corpus.json"
    path.write_text(f"[{' ' * (2**16 - 1 - cut)}" + json.dumps(TWO)[1:])
    found = [json.loads(element) for _, element in read_lines(str(path), arrays=True)]
    assert found == TWO


def test_an_array_takes_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "corpus.json"
    element = json.dumps({"_id": "a", "text": "x" * 10_000})
    long = json.dumps({"_id": "long", "text": "x" * (20 * 2**20)})
    path.write_text(f"[{long}, {', '.join([element] * 2000)}]")  # 40 MB
    tracemalloc.start()
    found = read_documents(str(path), max_line_bytes=2**20)
    rejected = next(found)
    count = sum(isinstance(item, Document) for item in found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(rejected, Rejected) and rejected.reason.startswith("longer than 1 MB")
    assert count == 2000 and peak < 8 * 2**20


def test_rejects_are_read_as_the_lines_that_were_rejected(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.rejects.jsonl"
    with rejects_file(path) as rejects:
        rejects.add(Rejected("corpus.jsonl:3", "server: no", '{"_id": "a", "text": "x"}'))
        rejects.add(Rejected("corpus.jsonl:9", "no id", '{"text": "x"}'))
        rejects.add(Rejected("corpus.jsonl:12", "broken", '{"_id": \n'))
    document, textless, broken = items(path)
    assert document == Document("a", "x", place="corpus.jsonl:3")
    assert isinstance(textless, Rejected) and isinstance(broken, Rejected)
    assert (textless.place, textless.line) == ("corpus.jsonl:9", '{"text": "x"}')
    assert broken.place == "corpus.jsonl:12"
    # a document may have these fields as well
    path.write_text('{"place": "Rome", "reason": "r", "line": "A", "_id": "a", "text": "x"}\n')
    assert items(path) == [
        Document("a", "x", "", {"place": "Rome", "reason": "r", "line": "A"}, f"{path}:1")
    ]


def test_rejects_are_indexed(home: Path, tmp_path: Path, tiny_model: str) -> None:
    path = tmp_path / "c"
    path.write_text('{"_id": "a", "text": "heart"}\n{"_id": "b", "text": "bone"\n')
    args = ("--model", tiny_model, "--index", "x")
    assert run("index", path, *args).exit_code == 1
    rejects = tmp_path / "c.rejects.jsonl"
    mended = json.loads(rejects.read_text())
    rejects.write_text(json.dumps({**mended, "line": mended["line"] + "}"}) + "\n")
    assert run("index", rejects, *args).exit_code == 0
    assert json.loads(run("info", "--index", "x", "--json").stdout)["documents"] == 2
