"""A query's sparse row -> weighted clauses -> the language of each server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splade_es.engines.base import MAX_CLAUSES
from splade_es.errors import QueryError
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
    undoes it, so that a score reads like the model's own dot product. Keeps at most `top_k` terms,
    and MAX_CLAUSES in any case, and drops weights below `threshold`. Raises QueryError if `top_k`
    leaves nothing.
    """
    if top_k is not None and top_k < 1:
        raise QueryError(f"top_k is {top_k}", "Keep at least 1 term of a query.")
    # Negated, so that a weight which is no number stays, and the engine refuses it by name.
    terms = [
        (weight, id)
        for id, weight in zip(row.ids.tolist(), row.weights.tolist(), strict=True)
        if not weight < threshold
    ]
    terms.sort(key=lambda term: (-term[0], term[1]))
    most = MAX_CLAUSES if top_k is None else min(top_k, MAX_CLAUSES)
    return [Clause(names[id], weight / scale) for weight, id in terms[:most]]


def rank_feature_query(clauses: Sequence[Clause], field: str) -> dict[str, Any]:
    """The weighted sum over a `rank_features` field, as both servers spell it."""
    return {
        "bool": {
            "should": [
                {
                    "rank_feature": {
                        "field": f"{field}.{feature}",
                        "linear": {},
                        "boost": float(boost),
                    }
                }
                for feature, boost in clauses
            ]
        }
    }


def sparse_vector_query(clauses: Sequence[Clause], field: str) -> dict[str, Any]:
    """The weighted sum over a `sparse_vector` field of Elasticsearch.

    prune is false: by default the server drops query tokens by thresholds made for ELSER.
    """
    vector: dict[str, float] = {}
    for feature, boost in clauses:  # a feature may come twice, a JSON key may not
        vector[feature] = vector.get(feature, 0.0) + float(boost)
    return {"sparse_vector": {"field": field, "query_vector": vector, "prune": False}}
