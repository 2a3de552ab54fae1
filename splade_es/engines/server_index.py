"""An index of a server: its life, its documents, and searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from splade_es.engines import dsl
from splade_es.engines.base import (
    Engine,
    FieldType,
    IndexAlias,
    IndexSettings,
    IndexUpdates,
    check_field_type,
    check_search,
)
from splade_es.engines.responses import (
    bulk_results,
    hit_counts,
    index_missing,
    parts,
    scored_ids,
    text_of,
)
from splade_es.engines.server_admin import (
    DOCUMENTS_PER_REQUEST,
    WHOLE,
    IndexRequests,
    ServerAlias,
    ServerSettings,
    ServerUpdates,
)
from splade_es.engines.transport import bulk_lines
from splade_es.errors import (
    AccessDenied,
    FieldTypeMissing,
    IndexMismatch,
    QueryError,
    Unavailable,
)
from splade_es.fields import FIELD, HASH_FIELD, ID_FIELD, PREFIX
from splade_es.index_meta import IndexMeta
from splade_es.limits import MAX_K
from splade_es.mappings import index_body
from splade_es.records import (
    Action,
    Clause,
    Document,
    Filter,
    Hit,
    IndexStats,
    ItemResult,
    ScoredId,
    Source,
)

#: Searches of one `_msearch` request: enough to hide the round trip, few enough for the memory.
SEARCHES_PER_REQUEST = 64
#: Seconds for a force-merge: a large index takes hours.
MERGE_TIMEOUT = 24 * 3600.0


class ServerIndex:
    """An `EngineIndex` on a server. Safe to use from several threads."""

    def __init__(self, engine: Engine, requests: IndexRequests) -> None:
        self.engine = engine
        self.name = requests.name
        self._requests = requests
        self._server = requests.transport.label
        self.settings: IndexSettings | None = ServerSettings(requests)
        self.alias: IndexAlias | None = ServerAlias(requests)
        self.updates: IndexUpdates | None = ServerUpdates(requests)

    # The index as a whole

    def create(
        self, meta: IndexMeta, *, field_type: FieldType | None = None, source: Source = "full"
    ) -> None:
        check_field_type(self.engine, field_type)
        self._requests.forget()
        known = self._requests.transport.feature_fields
        fields = [field for field in known if field_type in (None, field.type)]
        for field in fields:
            body = index_body(meta, field.mapping, source=source)
            if source == "no-vectors":
                body["settings"]["index"]["mapping"] |= field.no_vectors
            try:
                self._requests.send("PUT", "", body, once=True)
                return
            except FieldTypeMissing as error:
                if field is fields[-1]:
                    says = f"{self._server} has no field type {field.type}"
                    raise FieldTypeMissing(says, "Choose another `field_type`.") from error

    def exists(self) -> bool:
        try:
            return bool(self._requests.send("HEAD", "", once=True))
        except AccessDenied as error:  # an answer without a body, which would name it
            error.message += f" for the index {self.name!r}"
            raise

    def meta(self) -> IndexMeta:
        stored = self._requests.stored_meta()
        try:
            return IndexMeta.from_dict(stored)
        except KeyError as exc:
            raise IndexMismatch(
                f"The index {self.name!r} was made by splade-es {stored.get('toolkit')}, "
                f"which does not say its {exc.args[0]}",
                "Index the corpus again.",
            ) from exc

    def uuid(self) -> str | None:
        return str(self._requests.settings()["uuid"])

    def refresh(self) -> None:
        self._requests.send("POST", "/_refresh")

    def force_merge(self) -> None:
        self._requests.send("POST", "/_forcemerge?max_num_segments=1", timeout=MERGE_TIMEOUT)

    def count(self) -> int:
        answer = self._requests.send("GET", "/_count")
        if failed := answer["_shards"]["failed"]:
            raise Unavailable(f"{failed} shards of {self._requests.label} do not answer")
        return int(answer["count"])

    def stats(self) -> IndexStats:
        field, _ = self._requests.known()
        action = "/_stats/store,segments?include_segment_file_sizes=true"
        primaries = self._requests.send("GET", action)["_all"]["primaries"]
        files = primaries["segments"].get("file_sizes", {})
        sizes = {name: file["size_in_bytes"] for name, file in files.items()}
        return IndexStats(
            self.count(), primaries["store"]["size_in_bytes"], field.type, parts(sizes)
        )

    def delete(self) -> None:
        if self._requests.is_foreign():
            raise IndexMismatch(
                f"Others made the index {self._requests.label}; splade-es only added features",
                "Delete it with the server's own API, if it must go.",
            )
        self._requests.send("DELETE", "", once=True)
        self._requests.forget()

    # Documents

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        if not actions:
            return []
        if not self.exists():  # the bulk API would create it, with a mapping of its own
            raise index_missing(self.name, self._server)
        lines = [line for action in actions for line in bulk_lines(action)]
        path = "/_bulk?filter_path=items.*.status,items.*.error"
        answer = self._requests.send("POST", path, *lines, once=True)
        return bulk_results(answer, self._server)

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        body = {"ids": list(ids)}
        answer = self._requests.send("POST", f"/_mget?_source_includes={HASH_FIELD}", body)
        found = [(doc["_id"], doc.get("_source", {})) for doc in answer["docs"]]
        return {id: source[HASH_FIELD] for id, source in found if HASH_FIELD in source}

    def ids(self) -> Iterator[str]:
        self._requests.known()
        body: dict[str, Any] = {"size": MAX_K, "sort": [ID_FIELD], **dsl.IDS_ONLY}
        body["query"] = dsl.HAS_ID
        while True:
            hits = self._requests.send("POST", f"/_search?{WHOLE}", body)["hits"]["hits"]
            yield from (hit["fields"][ID_FIELD][0] for hit in hits)
            if len(hits) < MAX_K:
                return
            body["search_after"] = hits[-1]["sort"]

    def documents(self, ids: Sequence[str]) -> list[Document]:
        _, text_fields = self._requests.known()
        found: dict[str, Document] = {}
        remaining = iter(ids)
        while batch := list(islice(remaining, DOCUMENTS_PER_REQUEST)):
            body = {
                "size": len(batch),
                "query": {"ids": {"values": batch}},
                "track_total_hits": False,
                "_source": {"excludes": [f"{PREFIX}*"]},
            }
            for hit in self._requests.send("POST", f"/_search?{WHOLE}", body)["hits"]["hits"]:
                source = _with_text(hit.get("_source", {}), text_fields)
                found[hit["_id"]] = Document.from_source(hit["_id"], source)
        return [found[id] for id in ids if id in found]

    # Searches

    def search(
        self,
        clauses: Sequence[Clause],
        k: int,
        *,
        contributions: bool = False,
        filter: Filter | None = None,
    ) -> list[Hit]:
        check_search([clauses], k, filter)
        field, text_fields = self._requests.known()  # raises for an index of someone else
        if not clauses:  # an empty `bool` matches everything
            return []
        make = dsl.named_query if contributions else dsl.clauses_query
        body = {
            "size": k,
            "query": dsl.filtered(make(field.query, clauses), filter),
            "track_total_hits": False,
            "_source": {"excludes": [FIELD, ID_FIELD]},
        }
        action = f"/_search?{WHOLE}"
        if contributions:
            action += "&include_named_queries_score=true"
        return [
            Hit(
                hit["_id"],
                float(hit["_score"]),
                _with_text(hit.get("_source", {}), text_fields),
                hit.get("matched_queries") or {},
            )
            for hit in self._requests.send("POST", action, body)["hits"]["hits"]
        ]

    def search_many(
        self, queries: Sequence[Sequence[Clause]], k: int, *, filter: Filter | None = None
    ) -> list[list[ScoredId]]:
        check_search(queries, k, filter)
        field, _ = self._requests.known()
        asked = [dsl.clauses_query(field.query, clauses) for clauses in queries if clauses]
        found = iter(self._msearch([dsl.filtered(query, filter) for query in asked], k))
        return [next(found) if clauses else [] for clauses in queries]

    def search_bm25(
        self, texts: Sequence[str], k: int, *, filter: Filter | None = None
    ) -> list[list[ScoredId]]:
        check_search([], k, filter)
        _, text_fields = self._requests.known()
        asked = [dsl.bm25_query(text, text_fields or ["text"]) for text in texts]
        return self._msearch([dsl.filtered(query, filter) for query in asked], k)

    def document_frequencies(self, features: Sequence[str]) -> list[int]:
        field, _ = self._requests.known()
        counts: list[int] = []
        remaining = iter(features)
        while batch := list(islice(remaining, SEARCHES_PER_REQUEST)):
            lines: list[Any] = []
            for feature in batch:
                lines.append({"allow_partial_search_results": False})
                query = dsl.clauses_query(field.query, [Clause(feature, 1.0)])
                lines.append({"size": 0, "query": query, "track_total_hits": True})
            answer = self._requests.send("POST", "/_msearch", *lines)
            counts += hit_counts(answer, self._server)
        return counts

    def explain(self, clauses: Sequence[Clause], id: str) -> dict[str, float]:
        check_search([clauses], 1)
        field, _ = self._requests.known()
        query = dsl.named_query(field.query, clauses)
        query["bool"]["filter"] = [{"ids": {"values": [id]}}]
        action = "/_search?include_named_queries_score=true&_source=false"
        hits = self._requests.send("POST", action, {"query": query})["hits"]["hits"]
        if not hits:
            raise QueryError(
                f"There is no document {id!r} in the index {self.name!r}", "Use the id of a hit."
            )
        contributions: dict[str, float] = hits[0].get("matched_queries") or {}
        return contributions

    def _msearch(self, queries: list[dict[str, Any]], k: int) -> list[list[ScoredId]]:
        results: list[list[ScoredId]] = []
        remaining = iter(queries)
        while batch := list(islice(remaining, SEARCHES_PER_REQUEST)):
            lines: list[Any] = []
            for query in batch:
                lines.append({"allow_partial_search_results": False})
                lines.append({"size": k, "query": query, **dsl.IDS_ONLY})
            answer = self._requests.send("POST", "/_msearch", *lines)
            results += scored_ids(answer, self._server)
        return results


def _with_text(source: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """Hits of an index that others made show as `text` what was encoded."""
    return {**source, "title": "", "text": text_of(source, fields)} if fields else source
