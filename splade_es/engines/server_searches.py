"""Searches in an index of a server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from splade_es.engines import dsl
from splade_es.engines.base import check_search
from splade_es.engines.responses import hit_counts, scored_ids, search_hits, text_of
from splade_es.engines.server_admin import DOCUMENTS_PER_REQUEST, WHOLE, IndexRequests
from splade_es.engines.shapes import expect, expect_as_many
from splade_es.errors import QueryError
from splade_es.fields import COMPANIONS, FIELDS_FIELD, ID_FIELD
from splade_es.records import Clause, Document, Filter, Hit, ScoredId

#: Searches of one `_msearch` request: enough to hide the round trip, few enough for the memory.
SEARCHES_PER_REQUEST = 64


class ServerSearches:
    """The part of an `EngineIndex` that finds documents."""

    def __init__(self, requests: IndexRequests) -> None:
        self.name = requests.name
        self._requests = requests
        self._server = requests.transport.label

    def search(
        self,
        clauses: Sequence[Clause],
        k: int,
        *,
        contributions: bool = False,
        filter: Filter | None = None,
    ) -> list[Hit]:
        field, name, text_fields = self._requests.known()  # raises for an index of someone else
        check_search([clauses], k, filter, name)
        if not clauses:  # an empty `bool` matches everything
            return []
        make = dsl.named_query if contributions else dsl.clauses_query
        body = {
            "size": k,
            "query": dsl.filtered(make(field.query, name, clauses), filter),
            "track_total_hits": False,
            "_source": {"excludes": [name, FIELDS_FIELD, ID_FIELD]},
        }
        action = f"/_search?{WHOLE}"
        if contributions:
            action += "&include_named_queries_score=true"
        with self._requests.answer("POST", action, body) as answer:
            return [
                Hit(
                    expect(str, hit["_id"]),
                    float(hit["_score"]),
                    _with_text(expect(dict, hit.get("_source", {})), text_fields),
                    _contributions(hit),
                )
                for hit in search_hits(answer)
            ]

    def search_many(
        self, queries: Sequence[Sequence[Clause]], k: int, *, filter: Filter | None = None
    ) -> list[list[ScoredId]]:
        field, name, _ = self._requests.known()
        check_search(queries, k, filter, name)
        asked = [dsl.clauses_query(field.query, name, clauses) for clauses in queries if clauses]
        found = iter(self._msearch([dsl.filtered(query, filter) for query in asked], k))
        return [next(found) if clauses else [] for clauses in queries]

    def search_bm25(
        self, texts: Sequence[str], k: int, *, filter: Filter | None = None
    ) -> list[list[ScoredId]]:
        _, name, text_fields = self._requests.known()
        check_search([], k, filter, name)
        asked = [dsl.bm25_query(text, text_fields or {"text": ""}) for text in texts]
        # with the frequencies of all shards, so that the scores are those of one
        return self._msearch(
            [dsl.filtered(query, filter) for query in asked], k, "dfs_query_then_fetch"
        )

    def document_frequencies(self, features: Sequence[str]) -> list[int]:
        field, name, _ = self._requests.known()
        counts: list[int] = []
        remaining = iter(features)
        while batch := list(islice(remaining, SEARCHES_PER_REQUEST)):
            lines: list[Any] = []
            for feature in batch:
                lines.append({"allow_partial_search_results": False})
                query = dsl.clauses_query(field.query, name, [Clause(feature, 1.0)])
                lines.append({"size": 0, "query": query, "track_total_hits": True})
            with self._requests.answer("POST", "/_msearch", *lines) as answer:
                counts += expect_as_many(batch, hit_counts(answer, self._server))
        return counts

    def explain(self, clauses: Sequence[Clause], id: str) -> dict[str, float]:
        check_search([clauses], 1)
        field, name, _ = self._requests.known()
        query = dsl.named_query(field.query, name, clauses)
        query["bool"]["filter"] = [{"ids": {"values": [id]}}]
        action = "/_search?include_named_queries_score=true&_source=false"
        with self._requests.answer("POST", action, {"query": query}) as answer:
            if hits := search_hits(answer):
                return _contributions(hits[0])
        raise QueryError(
            f"There is no document {id!r} in the index {self.name!r}", "Use the id of a hit."
        )

    def _msearch(
        self, queries: list[dict[str, Any]], k: int, search_type: str = "query_then_fetch"
    ) -> list[list[ScoredId]]:
        results: list[list[ScoredId]] = []
        remaining = iter(queries)
        while batch := list(islice(remaining, SEARCHES_PER_REQUEST)):
            lines: list[Any] = []
            for query in batch:
                lines.append({"allow_partial_search_results": False, "search_type": search_type})
                lines.append({"size": k, "query": query, **dsl.IDS_ONLY})
            with self._requests.answer("POST", "/_msearch", *lines) as answer:
                results += expect_as_many(batch, scored_ids(answer, self._server))
        return results

    def documents(self, ids: Sequence[str]) -> list[Document]:
        _, name, text_fields = self._requests.known()
        found: dict[str, Document] = {}
        remaining = iter(ids)
        while batch := list(islice(remaining, DOCUMENTS_PER_REQUEST)):
            body = {
                "size": len(batch),
                "query": {"ids": {"values": batch}},
                "track_total_hits": False,
                "_source": {"excludes": [name, *COMPANIONS]},
            }
            with self._requests.answer("POST", f"/_search?{WHOLE}", body) as answer:
                for hit in search_hits(answer):
                    source = _with_text(expect(dict, hit.get("_source", {})), text_fields)
                    found[hit["_id"]] = Document.from_source(expect(str, hit["_id"]), source)
        return [found[id] for id in ids if id in found]


def _contributions(hit: dict[str, Any]) -> dict[str, float]:
    """What each named query adds to the score of a hit."""
    named = expect(dict, hit.get("matched_queries") or {})
    return {feature: float(score) for feature, score in named.items()}


def _with_text(source: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Hits of an index that others made show as `text` what was encoded."""
    return {**source, "title": "", "text": text_of(source, fields)} if fields else source
