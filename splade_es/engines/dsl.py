"""The query language of the servers; nothing outside `engines` knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splade_es.fields import FIELDS_FIELD, ID_FIELD
from splade_es.filter_terms import filter_term
from splade_es.records import Clause, Filter

#: The id comes from doc values: reading `_id` or `_source` costs ten times as much at k = 1,000.
IDS_ONLY = {"stored_fields": "_none_", "docvalue_fields": [ID_FIELD], "track_total_hits": False}
#: Documents with features; an index that others made may have further ones.
HAS_ID = {"exists": {"field": ID_FIELD}}


def rank_feature_query(name: str, clauses: Sequence[Clause]) -> dict[str, Any]:
    """The weighted sum over a `rank_features` field, as both servers write it."""
    return {
        "bool": {
            "should": [
                {
                    "rank_feature": {
                        "field": f"{name}.{feature}",
                        "linear": {},
                        "boost": float(boost),
                    }
                }
                for feature, boost in clauses
            ]
        }
    }


def sparse_vector_query(name: str, clauses: Sequence[Clause]) -> dict[str, Any]:
    """The weighted sum over a `sparse_vector` field of Elasticsearch 8.15 and newer.

    prune is false: by default the server drops query tokens by thresholds made for ELSER.
    """
    vector: dict[str, float] = {}
    for feature, boost in clauses:  # a feature may come twice, a JSON key may not
        vector[feature] = vector.get(feature, 0.0) + float(boost)
    return {"sparse_vector": {"field": name, "query_vector": vector, "prune": False}}


def term_query(name: str, clauses: Sequence[Clause]) -> dict[str, Any]:
    """The weighted sum over a `sparse_vector` field of Elasticsearch 8.11 to 8.14."""
    return {
        "bool": {
            "should": [
                {"term": {name: {"value": feature, "boost": float(boost)}}}
                for feature, boost in clauses
            ]
        }
    }


QUERIES = {
    "rank_feature": rank_feature_query,
    "sparse_vector": sparse_vector_query,
    "term": term_query,
}


def clauses_query(kind: str, name: str, clauses: Sequence[Clause]) -> dict[str, Any]:
    """The weighted sum of clauses over a field of that name. kind: one of QUERIES."""
    return QUERIES[kind](name, clauses)


def named_query(kind: str, name: str, clauses: Sequence[Clause]) -> dict[str, Any]:
    """The same, where each clause has a score of its own in the answer."""
    named = [
        {"bool": {"must": [clauses_query(kind, name, [clause])], "_name": clause.feature}}
        for clause in clauses
    ]
    return {"bool": {"should": named}}


def bm25_query(text: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """BM25 over some fields, among the documents that have features.

    fields: each with the path of the nested objects it is in, or "". Of these the best one counts.
    """
    paths: dict[str, list[str]] = {}
    for name, path in fields.items():
        paths.setdefault(path, []).append(name)
    matches: list[dict[str, Any]] = []
    for path, names in paths.items():
        match = {"multi_match": {"query": text, "fields": names}}
        nested = {"nested": {"path": path, "query": match, "score_mode": "max"}}
        matches.append(nested if path else match)
    best = matches[0] if len(matches) == 1 else {"dis_max": {"queries": matches}}
    return {"bool": {"must": [best], "filter": [HAS_ID]}}


def filtered(query: dict[str, Any], filter: Filter | None) -> dict[str, Any]:
    """A query whose hits must have one of the given values in each field; scores stay."""
    if not filter:
        return query
    clauses = []
    for name, wanted in filter.items():
        values = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
        terms = [term for value in values if (term := filter_term(name, value))]
        # a field that the mapping knows, and one that it does not
        either = [{"terms": {name: values}}, {"terms": {FIELDS_FIELD: terms}}]
        clauses.append({"bool": {"should": either}})
    return {"bool": {"must": [query], "filter": clauses}}
