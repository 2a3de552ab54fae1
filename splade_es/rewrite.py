"""Spell a rewritten query in the language of each server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splade_es.records import Clause


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
