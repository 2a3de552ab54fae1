"""Batches: their order, what is drawn, and what is no negative to whom."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from splade_es.training.batches import Batch, batches, draw, make_batch
from splade_es.training.data import Example, Examples, read_examples


def example(number: int, **changes: object) -> Example:
    plain = Example(f"q{number}", (f"p{number}",), (), None, None, (f"p{number}",), (), "")
    return plain._replace(**changes)  # type: ignore[arg-type]


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(f'{{"query": "q{n}", "positive": "p{n}"}}\n' for n in range(12)))
    return read_examples(str(path))


def test_every_epoch_shows_each_example_once_in_an_order_of_its_own(examples: Examples) -> None:
    seen = list(islice(batches(examples, 4, seed=1, start=0), 6))
    first = [query for batch in seen[:3] for query in batch.queries]
    second = [query for batch in seen[3:] for query in batch.queries]
    assert sorted(first) == sorted(second) == sorted(f"q{n}" for n in range(12))
    assert first != second


def test_a_resumed_run_sees_what_the_first_would_have_seen(examples: Examples) -> None:
    whole = [b.queries for b in islice(batches(examples, 5, seed=5, start=0), 11)]
    for start in range(11):
        assert next(batches(examples, 5, seed=5, start=start)).queries == whole[start]


def test_drawing_positives_and_negatives() -> None:
    rich = example(
        0, positives=("a", "b", "c"), negatives=("d", "e", "f", "g"),
        positive_scores=(3.0, 2.0, 1.0), negative_scores=(0.4, 0.3, 0.2, 0.1),
        positive_keys=("a", "b", "c", "known"), negative_keys=("d", "e", "f", "g"),
    )  # fmt: skip
    drawn = [draw(rich, 2, str(seed)) for seed in range(50)]
    assert {d.positives[0] for d in drawn} == {"a", "b", "c"}
    assert {n for d in drawn for n in d.negatives} == {"d", "e", "f", "g"}
    for d in drawn:
        assert len(d.negatives) == 2 and d.negatives == d.negative_keys
        assert d.positive_keys[0] == d.positives[0]
        assert set(d.positive_keys) == {"a", "b", "c", "known"}
        assert d.positive_scores == (
            dict(zip("abc", (3.0, 2.0, 1.0), strict=True))[d.positives[0]],
        )
        scores = dict(zip("defg", (0.4, 0.3, 0.2, 0.1), strict=True))
        assert d.negative_scores == tuple(scores[n] for n in d.negatives)
    assert draw(rich, 2, "x") == draw(rich, 2, "x")
    assert draw(rich, None, "x").negatives == rich.negatives


def excluded(batch: Batch) -> list[tuple[int, int]]:
    return [(int(q), int(n)) for q, n in torch.nonzero(batch.targets.excluded)]


def test_texts_of_a_batch_and_whose_they_are() -> None:
    batch = make_batch([
        example(0, negatives=("n",), negative_keys=("n",)),
        example(1),
        example(2, negatives=("m", "o"), negative_keys=("m", "o")),
    ])  # fmt: skip
    assert batch.documents == ["p0", "n", "p1", "p2", "m", "o"]
    assert batch.sizes == [2, 1, 3]
    assert batch.targets.candidates.tolist() == [[0, 1, -1], [2, -1, -1], [3, 4, 5]]
    assert batch.targets.teacher is None and excluded(batch) == []


def test_known_positives_are_no_negatives() -> None:
    batch = make_batch([
        example(0, positive_keys=("p0", "p2")),
        example(1, positive_keys=("p0",), positives=("another text of p0",)),
        example(2, negatives=("p1's negative",), negative_keys=("p0",)),
    ])  # fmt: skip
    # documents: p0, p0 again, p2, p0 as a negative of query 2
    assert excluded(batch) == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 3)]


def test_what_the_teacher_takes_for_relevant_is_no_negative() -> None:
    scored = example(
        0, negatives=("near", "far"), negative_keys=("near", "far"),
        positive_scores=(5.0,), negative_scores=(4.5, 1.0),
    )  # fmt: skip
    assert excluded(make_batch([scored], margin=1.0)) == [(0, 1)]
    assert excluded(make_batch([scored], margin=0.1)) == []
    assert excluded(make_batch([scored], margin=None)) == []
