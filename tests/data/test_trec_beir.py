"""Queries, judgements and runs: every format read, every bad line named."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_es.data.trec_beir import open_beir, read_qrels, read_queries, read_run, write_run
from splade_es.errors import CorpusError
from splade_es.records import Query

TOPICS = """
<top>
<num> Number: 301
<title> International
Organized Crime

<desc> Description:
Identify organizations.
</top>
<top><num>302</num><title>Topic: Poliomyelitis</title></top>
"""


@pytest.mark.parametrize(
    "content",
    [
        '{"_id": "301", "text": "International Organized Crime", "metadata": {}}\n'
        '{"_id": 302, "text": "Poliomyelitis"}\n',
        '[{"_id": "301", "text": "International Organized Crime"},\n'
        ' {"_id": 302, "text": "Poliomyelitis"}]',
        "301\tInternational Organized Crime\r\n\r\n302\tPoliomyelitis",
        TOPICS,
    ],
    ids=["json", "array", "tab", "topics"],
)
def test_queries_are_read_in_the_format_that_the_file_has(tmp_path: Path, content: str) -> None:
    expected = [Query("301", "International Organized Crime"), Query("302", "Poliomyelitis")]
    path = tmp_path / "queries"
    path.write_text(content)
    assert read_queries(str(path)) == expected
    path.write_bytes(gzip.compress(content.encode()))
    assert read_queries(str(path)) == expected


def test_of_a_repeated_query_id_the_last_wins(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_text("1\ta\n2\tb\n1\tc\n")
    assert read_queries(str(path)) == [Query("1", "c"), Query("2", "b")]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\n\n", ": no queries. Write one a line."),
        (b"1\ta\n2\t ", ':2: query "2" is empty. Write its text.'),
        (b"1 a", ":1: no tab. Write a query as: id, tab, text."),
        (b"1\ta\n2\t\xff", ":2: not UTF-8 at byte 3. Convert the file with iconv -t UTF-8."),
        (b"<topics>\n<top>", ":1: no <top>. TREC topics start with <top>."),
        (
            b"<top>\n<num>1\n<title>a\n</top>\n\n<top>\n<num>2\n",
            ":6: a topic without <num> or <title>. Give it both.",
        ),
        (
            b'{"_id": "1", "text": "a"}\n{"_id": "2"}',
            ':2: no text; give each line a "text" or "contents"',
        ),
    ],
)
def test_a_bad_query_is_named(tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "queries"
    path.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        read_queries(str(path))
    assert str(caught.value) == f"{path}{error}"


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\n1\ta b\t2\n1\tb\t0\n2\tc\t1\n",
        "1\ta b\t2\n1\tb\t0\n1\tb\t0\n2\tc\t1\n",
    ],
    ids=["beir", "no header, one line twice"],
)
def test_beir_judgements_are_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "qrels"
    path.write_text(content)
    assert read_qrels(str(path)) == {"1": {"a b": 2, "b": 0}, "2": {"c": 1}}


def test_trec_judgements_are_read(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text("1 0 a 2\n1 Q0 b -1\n2\t0\tc\t1\n")
    assert read_qrels(str(path)) == {"1": {"a": 2, "b": -1}, "2": {"c": 1}}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("query-id\tcorpus-id\tscore\n", ": no judgements. Write one a line."),
        ("1 0 a 1\n1 0 a 2\n", ':2: document "a" of query "1" has two grades. Keep one of them.'),
        ("1 0 a yes", ':1: grade "yes". Make it a whole number.'),
        ("q\td\ts\n1\ta\t1.5", ':2: grade "1.5". Make it a whole number.'),
        (
            "1 a",
            ":1: 2 columns. A judgement has three (query, document, grade) "
            "or four (query, 0, document, grade).",
        ),
    ],
)
def test_a_bad_judgement_is_named(tmp_path: Path, content: str, error: str) -> None:
    path = tmp_path / "qrels"
    path.write_text(content)
    with pytest.raises(CorpusError) as caught:
        read_qrels(str(path))
    assert str(caught.value) == f"{path}{error}"


def beir(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": "2", "text": "b"}\n{"_id": "3", "text": "c"}\n{"_id": "1", "text": "a"}\n'
    )
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n1\tx\t1\n2\ty\t1\n")
    (tmp_path / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(b"9\tx\t1\n"))
    return tmp_path


def test_a_beir_directory_gives_the_judged_queries_of_a_split(tmp_path: Path) -> None:
    queries, qrels = open_beir(str(beir(tmp_path)), "dev")
    assert queries == [Query("2", "b"), Query("1", "a")]
    assert qrels == {"1": {"x": 1}, "2": {"y": 1}}


def test_what_a_beir_directory_lacks_is_named(tmp_path: Path) -> None:
    def error(directory: Path, split: str) -> str:
        with pytest.raises(CorpusError) as caught:
            open_beir(str(directory), split)
        return str(caught.value)

    empty = tmp_path / "empty"
    assert error(empty, "test") == f"{empty}: no such directory. Give a directory in BEIR layout."
    empty.mkdir()
    assert error(empty, "test") == f"{empty}: no queries.jsonl. Give a directory in BEIR layout."
    (empty / "queries.jsonl").touch()
    assert error(empty, "test") == (
        f'{empty}: no judgements for split "test". Put them in qrels/SPLIT.tsv.'
    )
    folder = beir(tmp_path)
    assert error(folder, "train") == (
        f'{folder}: no judgements for split "train". There are: dev, test.'
    )
    assert error(folder, "test") == (
        f'{folder}/qrels/test.tsv.gz: 1 judged queries, "9" first, are not in '
        f"{folder}/queries.jsonl. Take both files from the same collection."
    )


def test_a_run_is_written_best_first_with_ties_by_id(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_run(str(path), {"q2": {"b": 1.5, "a": 1.5, "c": 12.0}, "q1": {}}, tag="mine")
    assert path.read_text() == ("q2 Q0 c 1 12.0 mine\nq2 Q0 a 2 1.5 mine\nq2 Q0 b 3 1.5 mine\n")
    assert os.listdir(tmp_path) == ["run.trec"]


IDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)


@given(
    st.dictionaries(
        IDS,
        st.dictionaries(
            IDS, st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1
        ),
    )
)
def test_a_run_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, run: dict[str, dict[str, float]]
) -> None:
    path = str(tmp_path_factory.getbasetemp() / "run.trec")
    write_run(path, {q: {d: float(np.float32(s)) for d, s in r.items()} for q, r in run.items()})
    assert read_run(path) == run


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("q Q0 a 2 1.0", "5 columns. A run has six: query, Q0, document, rank, score, tag."),
        ("q Q0 b 2 nan t", 'score "nan". Make it a finite number.'),
        ("q Q0 b 2 high t", 'score "high". Make it a finite number.'),
        ("q Q0 a 2 1.0 t", 'document "a" of query "q" is given twice. Keep one of them.'),
    ],
)
def test_a_bad_line_of_a_run_is_named(tmp_path: Path, line: str, error: str) -> None:
    path = tmp_path / "run.trec"
    path.write_text(f"q Q0 a 1 2.0 t\n{line}\n")
    with pytest.raises(CorpusError) as caught:
        read_run(str(path))
    assert str(caught.value) == f"{path}:2: {error}"


def test_a_run_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("old")
    with pytest.raises(CorpusError) as caught:
        write_run(str(path), {"q": {"a": 2.0, "b c": 1.0}})
    assert str(caught.value) == (
        f'{path}: an id of query "q", document "b c" is empty or has white space. '
        "A run file cannot hold it; use ids without white space."
    )
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.trec"]
    with pytest.raises(CorpusError) as caught:
        write_run(str(tmp_path / "none" / "run.trec"), {})
    assert str(caught.value) == (
        f"{tmp_path}/none/run.trec: cannot be written (No such file or directory). "
        "Check the directory, its permissions and its free space."
    )


def test_a_run_may_go_to_a_pipe_or_through_a_link(tmp_path: Path) -> None:
    write_run(os.devnull, {"q": {"a": 1.0}})
    assert not os.path.isfile(os.devnull)  # still the device
    link = tmp_path / "latest.trec"
    link.symlink_to("run.trec")
    write_run(str(link), {"q": {"a": 1.0}})
    assert link.is_symlink()
    assert (tmp_path / "run.trec").read_text() == "q Q0 a 1 1.0 splade-es\n"
