"""Training examples: what is read, what is refused and where, and that memory stays flat."""

import gc
import gzip
import io
import json
import os
import re
import sqlite3
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from splade_es.errors import SpladeEsError, TrainingError
from splade_es.training.data import Example, Examples, read_examples

PAIR = {"query": "q", "positive": "p"}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read_one(path: str, **options: Any) -> Example:
    with read_examples(path, **options) as examples:
        assert len(examples) == 1
        return examples[0]


def error(path: str, **options: Any) -> str:
    with pytest.raises(SpladeEsError) as caught:
        read_examples(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_pairs_triples_and_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", PAIR)
    assert read_one(path) == Example("q", ("p",), (), None, None, ("p",), (), f"{path}:1")
    path = write(tmp_path / "train.jsonl", {**PAIR, "negative": "n", "other": 1})
    assert read_one(path) == Example("q", ("p",), ("n",), None, None, ("p",), ("n",), f"{path}:1")
    row = {**PAIR, "negatives": ["n", "m"], "scores": [3, 1.5, 0]}
    assert read_one(write(tmp_path / "train.jsonl", row), needs_scores=True) == Example(
        "q", ("p",), ("n", "m"), (3.0,), (1.5, 0.0), ("p",), ("n", "m"), f"{path}:1"
    )


def test_several_positives_with_their_ids(tmp_path: Path) -> None:
    row = {
        "query": "q",
        "positives": ["p", "r"],
        "negatives": ["n"],
        "scores": [9, 8, 1],
        "positive_ids": [1, "2", 3],
        "negative_ids": [4],
    }
    example = read_one(write(tmp_path / "train.jsonl", row))
    assert example.positives == ("p", "r")
    assert (example.positive_scores, example.negative_scores) == ((9.0, 8.0), (1.0,))
    assert (example.positive_keys, example.negative_keys) == (("1", "2", "3"), ("4",))


def test_the_own_id_comes_first_among_all_that_are_known(tmp_path: Path) -> None:
    row = {**PAIR, "positive_id": 7, "positive_ids": [5, 7]}
    assert read_one(write(tmp_path / "train.jsonl", row)).positive_keys == ("7", "5")


def test_rows_may_differ_in_their_numbers_of_documents(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", PAIR, {**PAIR, "negatives": ["n", "m"]}, PAIR)
    with read_examples(path) as examples:
        assert [len(examples[i].negatives) for i in range(3)] == [0, 2, 0]
        assert examples[2].place == f"{path}:3"
        for position in (-1, 3):
            with pytest.raises(IndexError):
                examples[position]


def test_gzip_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(PAIR).encode() + b"\n"))
    assert read_one(str(path)).place == f"{path}:1"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert read_one("-").place == "stdin:1"


def beir(folder: Path) -> str:
    folder.mkdir()
    write(
        folder / "corpus.jsonl",
        {"_id": "d1", "title": "one", "text": "first"},
        {"_id": "d2", "text": "second"},
        {"_id": "d3", "text": "third"},
        {"_id": "d4", "text": " "},
        {"_id": "d5", "text": "second"},
    )
    write(folder / "queries.jsonl", {"_id": "7", "text": "seven"}, {"_id": "8", "text": "eight"})
    (folder / "qrels").mkdir()
    (folder / "qrels" / "train.tsv").write_text(
        "query-id\tcorpus-id\tscore\n7\td1\t1\n8\td3\t0\n7\td2\t2\n7\td3\t0\n"
    )
    return str(folder)


def test_rows_by_id_are_looked_up_in_the_corpus(tmp_path: Path) -> None:
    row = {"query_id": 7, "positive_ids": ["d2", "d1"], "negative_ids": ["d3"], "scores": [3, 2, 1]}
    path = write(tmp_path / "train.jsonl", row)
    example = read_one(path, corpus=beir(tmp_path / "beir"))
    assert example == Example(
        query="seven",
        positives=("second", "one first"),
        negatives=("third",),
        positive_scores=(3.0, 2.0),
        negative_scores=(1.0,),
        positive_keys=("d2", "d1"),
        negative_keys=("d3",),
        place=f"{path}:1",
    )


def test_one_positive_by_id_beside_all_that_are_known(tmp_path: Path) -> None:
    row = {"query": "typed in", "positive_id": "d1", "positive_ids": ["d1", "d2"]}
    example = read_one(write(tmp_path / "t.jsonl", row), corpus=beir(tmp_path / "beir"))
    assert (example.query, example.positives) == ("typed in", ("one first",))
    assert example.positive_keys == ("d1", "d2")


def test_a_beir_folder_has_one_row_a_query_with_all_its_positives(tmp_path: Path) -> None:
    folder = beir(tmp_path / "beir")
    with read_examples(folder) as examples:
        assert examples.format == "beir"
    example = read_one(folder)
    assert example == Example(
        query="seven",
        positives=("one first", "second"),
        negatives=(),
        positive_scores=None,
        negative_scores=None,
        positive_keys=("d1", "d2"),
        negative_keys=(),
        place=f"{folder}/qrels/train.tsv, query 7",
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q"}, "there is no positive. Give each row at least one"),
        ({"query": "q", "positives": []}, "there is no positive."),
        ({"positive": "p"}, "the query is null, not a text"),
        ({**PAIR, "query": " "}, "the query is empty"),
        ({**PAIR, "query": 3}, "the query is a number, not a text"),
        ({"query": "q", "positives": ["p", ""]}, "positive 2 is empty"),
        ({**PAIR, "negatives": ["n", None]}, "negative 2 is null, not a text"),
        ({**PAIR, "negative": {"text": "n"}}, "negative 1 is an object, not a text"),
        (
            {**PAIR, "negatives": ["n", "p"]},
            "negative 2 is also a positive of the same query. Remove it from",
        ),
        ({**PAIR, "scores": [1, 2]}, "2 scores for 1 positive and 0 negatives. Give a score for"),
        ({**PAIR, "negative": "n", "scores": [1]}, "1 score for 1 positive and 1 negative."),
        ({**PAIR, "scores": ["1"]}, 'the score "1" is not a finite number'),
        ({**PAIR, "scores": [True]}, "the score true is not a finite number"),
        ({**PAIR, "scores": [1e39]}, "the score 1e+39 is not a finite number"),
        ({**PAIR, "scores": [10**400]}, "the score 1000"),
        ({"query": "q", "positives": ["p", "r"], "positive_ids": ["1"]}, "1 id for 2 positives"),
        ({**PAIR, "negative": "n", "negative_ids": ["1", "2"]}, "1 id for 1 positive and 2 for 1"),
        ({**PAIR, "positive_ids": [[1]]}, 'an id in "positive_ids" is an array. Make it a string'),
        ({**PAIR, "positive_id": True}, 'an id in "positive_id" is a boolean. Make it a string'),
        (
            {**PAIR, "negative": "n", "positive_id": "1", "negative_ids": ["1"]},
            "negative 1 is also a positive of the same query",
        ),
        ([1], "an array, not an object; write one object on each line"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path / "pairs.jsonl", PAIR, row)
    assert error(path).startswith(f"{path}:2: {said}")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"query_id": "9", "positive_id": "d1"},
            "the text of query 9 is not in the data. Check the id",
        ),
        (
            {"query_id": "7", "positive_id": "17"},
            "the text of document 17 is not in the data. Check the id",
        ),
        ({"query_id": "7", "positive_id": "d4"}, "document d4 is empty"),
        (
            {"query_id": "7", "positive_id": "d1", "negative_ids": ["d1"]},
            "document d1 is also a positive of the same query",
        ),
        (  # another id, the same text
            {"query_id": "7", "positive_id": "d2", "negative_ids": ["d3", "d5"]},
            "document d5 is also a positive of the same query",
        ),
    ],
)
def test_a_bad_row_of_ids_is_named(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path / "ids.jsonl", {"query_id": "7", "positive_id": "d1"}, row)
    assert error(path, corpus=beir(tmp_path / "beir")).startswith(f"{path}:2: {said}")


def test_ids_without_a_corpus(tmp_path: Path) -> None:
    path = write(tmp_path / "ids.jsonl", {"query": "q", "positive_id": "d1"})
    assert error(path) == (
        f"{path}:1: the text of document d1 is not in the data. "
        "Check the id, or set `corpus` to the folder with the texts."
    )


def test_a_bad_line_of_the_corpus_is_named(tmp_path: Path) -> None:
    folder = beir(tmp_path / "beir")
    write(tmp_path / "beir" / "corpus.jsonl", {"_id": "d1", "text": "x"}, {"text": "no id"})
    assert error(folder).startswith(f"{folder}/corpus.jsonl:2: no id")


@pytest.mark.parametrize("row", [PAIR, {**PAIR, "scores": [1]}, {**PAIR, "negative": "n"}])
def test_a_loss_that_needs_scores(tmp_path: Path, row: Any) -> None:
    path = write(tmp_path / "pairs.jsonl", {**PAIR, "negative": "n", "scores": [2, 1]}, row)
    assert error(path, needs_scores=True) == (
        f'{path}:2: there are no negatives with "scores", which this loss needs. '
        "Add the scores of a teacher, or set `loss` to infonce."
    )


def test_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl")
    assert error(path) == (
        f'{path}: there are no training rows. Write rows with "query" and "positive".'
    )


def test_a_full_disk_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def connect_to_a_small_disk(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(*args, **kwargs)
        database.execute("PRAGMA max_page_count=20")
        return database

    monkeypatch.setattr(sqlite3, "connect", connect_to_a_small_disk)
    path = write(tmp_path / "pairs.jsonl", *[{"query": "q", "positive": "p" * 4000}] * 50)
    assert error(path) == (
        f"{path}: cannot be kept in a temporary file (database or disk is full). "
        "Free some space, or set TMPDIR to a directory that has more."
    )


def test_closed_by_with_and_by_the_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "pairs.jsonl", PAIR)
    with read_examples(path) as examples:
        pass
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        examples[0]
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def recorded(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", recorded)
    read_examples(path)
    gc.collect()
    [database] = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
def test_examples_are_on_disk_in_a_file_without_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", *[{"query": "q", "positive": "p" * 4000}] * 500)

    def sizes() -> list[int]:
        """Of the open files of SQLite that have no name any more, so that a kill leaves none."""
        links = [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        names = {fd: os.readlink(fd) for fd in links}
        return [
            fd.stat().st_size for fd, name in names.items() if re.search(r"etilqs_.*deleted", name)
        ]

    before = sizes()
    with read_examples(path, cache_kib=100):
        # nearly all of 2 MB: the cache is small
        assert len(sizes()) == len(before) + 1 and sum(sizes()) - sum(before) > 1_500_000
    assert sizes() == before


def peak(examples: Examples) -> int:
    """Reads all and returns the highest memory, in bytes, since tracemalloc started."""
    assert all(len(examples[i].query) == 500 for i in range(len(examples)))
    examples.close()
    return tracemalloc.get_traced_memory()[1]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for size in (1_000, 10_000):
        path = tmp_path / f"{size}.jsonl"
        with path.open("w") as file:
            for i in range(size):
                file.write(json.dumps({"query": f"{i:0500}", "positive": f"p{i}"}) + "\n")
        tracemalloc.start()
        try:
            peaks.append(peak(read_examples(str(path))))
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_positions_are_read_at_random(tmp_path: Path) -> None:
    rows = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(100)]
    with read_examples(write(tmp_path / "t.jsonl", *rows)) as examples:
        assert [examples[i].query for i in (73, 5, 99, 0)] == ["q73", "q5", "q99", "q0"]


def test_an_unknown_format_is_refused_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r'there is no format "tevatron"\. Give one of splade-es'
    ):
        read_examples(write(tmp_path / "t.jsonl", PAIR), format="tevatron")


def test_a_callback_hears_what_is_read(tmp_path: Path) -> None:
    rows = [{"query_id": "7", "positive_id": "d1"}] * 2500
    calls: list[tuple[str, int]] = []
    path = write(tmp_path / "t.jsonl", *rows)
    read_examples(
        path,
        corpus=beir(tmp_path / "beir"),
        reading=lambda what, count: calls.append((what, count)),
    ).close()
    assert calls == [
        ("queries", 2), ("documents", 5), ("rows", 1000), ("rows", 2000), ("rows", 2500),
    ]  # fmt: skip
