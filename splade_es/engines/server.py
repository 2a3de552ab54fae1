"""What the Elasticsearch and the OpenSearch engine share: documents and queries.

Indices as wholes are in `indices`, the client and the field type in the file of either server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from splade_es.engines.answers import (
    bulk_results,
    hit_counts,
    index_missing,
    scored_ids,
    text_of,
)
from splade_es.engines.base import FIELD, MAX_K, check_search
from splade_es.engines.indices import ServerIndices
from splade_es.errors import QueryError
from splade_es.records import (
    Action,
    Clause,
    Document,
    Hit,
    ItemResult,
    ScoredId,
    Stored,
    Version,
)
from splade_es.rewrite import rank_feature_query, sparse_vector_query

#: Searches of one `_msearch` request: enough to hide the round trip, few enough for the memory.
SEARCHES_PER_REQUEST = 64
#: Documents of one request: some MB of text.
DOCUMENTS_PER_REQUEST = 500
#: The id comes from doc values: reading `_id` or `_source` costs ten times as much at k = 1,000.
IDS_ONLY = {"stored_fields": "_none_", "docvalue_fields": ["splade_id"], "track_total_hits": False}


class ServerEngine(ServerIndices):
    """An `Engine` on a server. Safe to use from several threads."""

    _whole_source: Any = True  # as a search must ask for it

    def hashes(self, index: str, ids: Sequence[str]) -> dict[str, str]:
        body = {"ids": list(ids)}
        answer = self._request("POST", index, "/_mget?_source_includes=splade_hash", body)
        found = [(doc["_id"], doc.get("_source", {})) for doc in answer["docs"]]
        return {id: source["splade_hash"] for id, source in found if "splade_hash" in source}

    def ids(self, index: str) -> Iterator[str]:
        self._field_type(index)
        body: dict[str, Any] = {"size": MAX_K, "sort": ["splade_id"], **IDS_ONLY}
        body["query"] = {"exists": {"field": "splade_id"}}  # a backfilled index may have others
        while True:
            action = "/_search?allow_partial_search_results=false"
            hits = self._request("POST", index, action, body)["hits"]["hits"]
            yield from (hit["fields"]["splade_id"][0] for hit in hits)
            if len(hits) < MAX_K:
                return
            body["search_after"] = hits[-1]["sort"]

    def bulk(self, index: str, actions: Sequence[Action]) -> list[ItemResult]:
        if not actions:
            return []
        if not self.exists(index):  # the bulk API would make it, with a mapping of its own
            raise index_missing(index, self._server)
        lines: list[Any] = []
        for id, source, version, merge in actions:
            target: dict[str, Any] = {"_id": id}
            if version is not None:
                target |= {"if_seq_no": version.seq_no, "if_primary_term": version.primary_term}
                if version.routing is not None:
                    target["routing"] = version.routing
            if source is None:
                lines.append({"delete": target})
            elif merge:
                lines += ({"update": target}, {"doc": {**source, "splade_id": id}})
            else:
                lines += ({"index": target}, {**source, "splade_id": id})
        action = "/_bulk?filter_path=items.*.status,items.*.error"
        return bulk_results(self._request("POST", index, action, *lines, once=True), self._server)

    def changes(self, index: str, shard: int) -> Iterator[Stored]:
        """The visible documents of a shard, whole, by their last change; one that is changed
        meanwhile may come again."""
        body: dict[str, Any] = {
            "size": DOCUMENTS_PER_REQUEST,
            "sort": ["_seq_no"],
            "seq_no_primary_term": True,
            "track_total_hits": False,
            "_source": self._whole_source,
        }
        action = f"/_search?preference=_shards:{shard}&allow_partial_search_results=false"
        while hits := self._request("POST", index, action, body)["hits"]["hits"]:
            for hit in hits:
                version = Version(hit["_seq_no"], hit["_primary_term"], hit.get("_routing"))
                yield Stored(hit["_id"], version, hit.get("_source", {}))
            body["search_after"] = hits[-1]["sort"]

    def _query(self, index: str, clauses: Sequence[Clause]) -> dict[str, Any]:
        if self._field_type(index) == "sparse_vector":
            return sparse_vector_query(clauses, FIELD)
        return rank_feature_query(clauses, FIELD)

    def _named_query(self, index: str, clauses: Sequence[Clause]) -> dict[str, Any]:
        """The same, where each clause has its own score in the answer."""
        named = [
            {"bool": {"must": [self._query(index, [clause])], "_name": clause.feature}}
            for clause in clauses
        ]
        return {"bool": {"should": named}}

    def search(
        self, index: str, clauses: Sequence[Clause], k: int, contributions: bool = False
    ) -> list[Hit]:
        check_search([clauses], k)
        self._field_type(index)  # an index of someone else is an error, whatever the clauses
        if not clauses:  # an empty `bool` matches everything
            return []
        body = {
            "size": k,
            "query": (self._named_query if contributions else self._query)(index, clauses),
            "track_total_hits": False,
            "_source": {"excludes": [FIELD, "splade_id"]},
        }
        action = "/_search?allow_partial_search_results=false"
        if contributions:
            action += "&include_named_queries_score=true"
        hits = self._request("POST", index, action, body)["hits"]["hits"]
        return [
            Hit(
                hit["_id"],
                float(hit["_score"]),
                self._with_text(index, hit.get("_source", {})),
                hit.get("matched_queries") or {},
            )
            for hit in hits
        ]

    def _with_text(self, index: str, source: dict[str, Any]) -> dict[str, Any]:
        fields = self._filled.get(index)
        return {**source, "title": "", "text": text_of(source, fields)} if fields else source

    def search_many(
        self, index: str, queries: Sequence[Sequence[Clause]], k: int
    ) -> list[list[ScoredId]]:
        check_search(queries, k)
        self._field_type(index)
        asked = [self._query(index, clauses) for clauses in queries if clauses]
        found = iter(self._msearch(index, asked, k))
        return [next(found) if clauses else [] for clauses in queries]

    def match(self, index: str, texts: Sequence[str], k: int) -> list[list[ScoredId]]:
        check_search([], k)
        self._field_type(index)
        ours = {"exists": {"field": "splade_id"}}  # a backfilled index may have others
        fields = self._filled.get(index) or ["text"]
        queries = [
            {
                "bool": {
                    "must": [{"multi_match": {"query": text, "fields": fields}}],
                    "filter": [ours],
                }
            }
            for text in texts
        ]
        return self._msearch(index, queries, k)

    def _msearch(self, index: str, queries: list[dict[str, Any]], k: int) -> list[list[ScoredId]]:
        results: list[list[ScoredId]] = []
        remaining = iter(queries)
        while batch := list(islice(remaining, SEARCHES_PER_REQUEST)):
            lines: list[Any] = []
            for query in batch:
                lines.append({"allow_partial_search_results": False})
                lines.append({"size": k, "query": query, **IDS_ONLY})
            results += scored_ids(self._request("POST", index, "/_msearch", *lines), self._server)
        return results

    def frequencies(self, index: str, features: Sequence[str]) -> list[int]:
        self._field_type(index)
        counts: list[int] = []
        remaining = iter(features)
        while batch := list(islice(remaining, SEARCHES_PER_REQUEST)):
            lines: list[Any] = []
            for feature in batch:
                lines.append({"allow_partial_search_results": False})
                query = self._query(index, [Clause(feature, 1.0)])
                lines.append({"size": 0, "query": query, "track_total_hits": True})
            answer = self._request("POST", index, "/_msearch", *lines)
            counts += hit_counts(answer, self._server)
        return counts

    def documents(self, index: str, ids: Sequence[str]) -> list[Document]:
        self._field_type(index)
        found: dict[str, Document] = {}
        remaining = iter(ids)
        while batch := list(islice(remaining, DOCUMENTS_PER_REQUEST)):
            body = {
                "size": len(batch),
                "query": {"ids": {"values": batch}},
                "track_total_hits": False,
                "_source": self._filled.get(index) or ["title", "text"],
            }
            action = "/_search?allow_partial_search_results=false"
            for hit in self._request("POST", index, action, body)["hits"]["hits"]:
                source = self._with_text(index, hit.get("_source", {}))
                title, text = (str(source.get(key) or "") for key in ("title", "text"))
                found[hit["_id"]] = Document(hit["_id"], text, title)
        return [found[id] for id in ids if id in found]

    def explain(self, index: str, clauses: Sequence[Clause], id: str) -> dict[str, float]:
        check_search([clauses], 1)
        query = self._named_query(index, clauses)
        query["bool"]["filter"] = [{"ids": {"values": [id]}}]
        action = "/_search?include_named_queries_score=true&_source=false"
        hits = self._request("POST", index, action, {"query": query})["hits"]["hits"]
        if not hits:
            raise QueryError(
                f"There is no document {id!r} in the index {index!r}", "Ask for the id of a hit."
            )
        contributions: dict[str, float] = hits[0].get("matched_queries") or {}
        return contributions
