"""Training lines: what is read, what is refused and where, and the order of batches."""

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from splade_es.errors import SpladeEsError
from splade_es.training.data import Example, batches, read_examples

PAIR = {"query": "q", "positive": "p"}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_pairs_triples_and_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", {**PAIR, "positive_id": 7, "other": 1})
    assert read_examples(path, False) == [Example("q", ("p",), "7", None)]
    path = write(tmp_path / "triples.jsonl", {**PAIR, "negative": "n"})
    assert read_examples(path, False) == [Example("q", ("p", "n"), "p", None)]
    path = write(
        tmp_path / "scores.jsonl", {**PAIR, "negatives": ["n", "m"], "scores": [3, 1.5, 0]}
    )
    assert read_examples(path, True) == [Example("q", ("p", "n", "m"), "p", (3.0, 1.5, 0.0))]


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(PAIR).encode() + b"\n"))
    assert len(read_examples(str(path), False)) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q"}, ':2: "query", "positive" and each of "negatives" must be a text'),
        ({**PAIR, "query": " "}, ':2: "query", "positive" and each of "negatives" must be a text'),
        ({**PAIR, "negatives": "n"}, ':2: "query", "positive" and each of "negatives" must be'),
        ({**PAIR, "scores": [1e39]}, ':2: "scores" must be 1 finite numbers, the positive\'s'),
        ({**PAIR, "scores": [10**400]}, ':2: "scores" must be 1 finite numbers, the positive\'s'),
        ({**PAIR, "negatives": [3]}, ':2: "query", "positive" and each of "negatives" must be'),
        ({**PAIR, "negative": "n"}, ":2: 1 negatives, but the lines before it have 0. Give every"),
        ({**PAIR, "scores": [1, 2]}, ':2: "scores" must be 1 finite numbers, the positive\'s'),
        ({**PAIR, "scores": ["1"]}, ':2: "scores" must be 1 finite numbers, the positive\'s'),
        ([1], ":2: an array, not an object; write one object on each line"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path / "pairs.jsonl", PAIR, row)
    with pytest.raises(SpladeEsError) as caught:
        read_examples(path, False)
    assert str(caught.value).startswith(path + said)


def test_a_loss_that_needs_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", PAIR)
    with pytest.raises(SpladeEsError) as caught:
        read_examples(path, True)
    assert str(caught.value) == (
        f'{path}:1: no negatives with "scores", which this loss needs. '
        "Add a teacher's scores, or train with --loss infonce."
    )


def test_no_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl")
    with pytest.raises(SpladeEsError, match="no training lines"):
        read_examples(path, False)


def test_every_epoch_shows_each_example_once_in_an_order_of_its_own() -> None:
    examples = [Example(str(i), ("p",), str(i), None) for i in range(12)]
    seen = list(islice(batches(examples, 4, seed=1, start=0), 6))
    first = [e.query for batch in seen[:3] for e in batch]
    second = [e.query for batch in seen[3:] for e in batch]
    assert sorted(first) == sorted(second) == sorted(str(i) for i in range(12))
    assert first != second


def test_a_resumed_run_sees_what_the_first_would_have_seen() -> None:
    examples = [Example(str(i), ("p",), str(i), None) for i in range(10)]
    whole = list(islice(batches(examples, 3, seed=5, start=0), 11))
    for start in range(11):
        assert next(batches(examples, 3, seed=5, start=start)) == whole[start]
