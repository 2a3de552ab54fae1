"""A query's sparse row -> weighted clauses, which an engine writes in its own language."""

from __future__ import annotations

from collections.abc import Sequence

from splade_es.errors import QueryError
from splade_es.limits import MAX_CLAUSES
from splade_es.records import Clause, SparseRow


def rewrite(
    row: SparseRow,
    names: Sequence[str],
    scale: float,
    top_k: int | None = None,
    threshold: float = 0.0,
) -> list[Clause]:
    """The clauses of a query, strongest first (of equal weights the smaller vocabulary id).

    names: feature name of each vocabulary id. scale: of the stored integers; boost = weight / scale
    undoes it, so that a score equals the model's own dot product. Keeps at most `top_k` terms, and
    never more than MAX_CLAUSES, and drops weights below `threshold`. Raises QueryError for a
    `top_k` below 1.
    """
    if top_k is not None and top_k < 1:
        raise QueryError(f"`query_top_k` is {top_k}", "Keep at least 1 term of a query.")
    # negated, so that NaN stays, and the engine refuses it by name
    terms = [
        (weight, id)
        for id, weight in zip(row.ids.tolist(), row.weights.tolist(), strict=True)
        if not weight < threshold
    ]
    terms.sort(key=lambda term: (-term[0], term[1]))
    most = MAX_CLAUSES if top_k is None else min(top_k, MAX_CLAUSES)
    return [Clause(names[id], weight / scale) for weight, id in terms[:most]]
