"""A query's sparse row -> clauses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_es.errors import QueryError
from splade_es.limits import MAX_CLAUSES
from splade_es.records import Clause, SparseRow
from splade_es.search.rewrite import rewrite

NAMES = [f"t{n}" for n in range(2000)]


def row(weights: dict[int, float]) -> SparseRow:
    ids = sorted(weights)
    return SparseRow(
        np.array(ids, np.int32), np.array([weights[id] for id in ids], dtype=np.float32)
    )


def test_clauses_are_strongest_first_and_undo_the_scale() -> None:
    clauses = rewrite(row({3: 0.5, 7: 2.0, 9: 0.5, 11: 1.0}), NAMES, 100.0)
    assert clauses == [("t7", 0.02), ("t11", 0.01), ("t3", 0.005), ("t9", 0.005)]
    assert all(type(clause) is Clause and type(clause.boost) is float for clause in clauses)


def test_pruning_keeps_the_strongest_and_what_equals_the_threshold() -> None:
    weights = row({3: 0.5, 7: 2.0, 9: 0.5, 11: 0.25})
    assert rewrite(weights, NAMES, 1.0, top_k=2) == [("t7", 2.0), ("t3", 0.5)]
    assert rewrite(weights, NAMES, 1.0, threshold=0.5) == [("t7", 2.0), ("t3", 0.5), ("t9", 0.5)]
    assert rewrite(weights, NAMES, 1.0, 1, 3.0) == []
    assert rewrite(row({}), NAMES, 1.0) == []


def test_no_engine_gets_more_clauses_than_it_takes() -> None:
    weights = row({id: 1.0 + id for id in range(MAX_CLAUSES + 5)})
    for top_k in (None, MAX_CLAUSES + 1):
        clauses = rewrite(weights, NAMES, 1.0, top_k)
        assert len(clauses) == MAX_CLAUSES
        assert clauses[-1].feature == "t5"  # the five weakest are left out


def test_a_weight_that_is_no_number_does_not_vanish() -> None:
    (clause,) = rewrite(row({1: float("nan")}), NAMES, 1.0, threshold=0.5)
    assert np.isnan(clause.boost)  # which every engine refuses, with the name of the feature


@pytest.mark.parametrize("top_k", [0, -1])
def test_pruning_to_nothing_is_refused(top_k: int) -> None:
    with pytest.raises(
        QueryError, match=f"`query_top_k` is {top_k}. Keep at least 1 term of a query"
    ):
        rewrite(row({1: 1.0}), NAMES, 1.0, top_k)


@given(
    st.dictionaries(
        st.integers(0, 1999), st.floats(np.float32(0.01).item(), 8, width=32), max_size=60
    ),
    st.floats(1, 500),
)
def test_the_score_reads_like_the_dot_product(weights: dict[int, float], scale: float) -> None:
    """Against a document whose stored integers are its weights times the scale, exactly."""
    document = {f"t{id}": id % 7 for id in range(2000)}
    score = sum(c.boost * document[c.feature] * scale for c in rewrite(row(weights), NAMES, scale))
    assert score == pytest.approx(sum(w * (id % 7) for id, w in weights.items()), rel=1e-9)


def test_the_module_loads_no_heavy_library() -> None:
    heavy = "{'numpy', 'torch', 'bm25s'}"
    code = f"import sys, splade_es.search.rewrite; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
