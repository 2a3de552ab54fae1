"""What the Elasticsearch and the OpenSearch engine share: all but the client and the field type.

A subclass sends one request and maps its client's exceptions; paths, bodies and answers are here.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any
from urllib.parse import quote

import orjson

from splade_es.actions import Features
from splade_es.engines.address import Address
from splade_es.engines.answers import (
    bulk_results,
    hit_counts,
    index_missing,
    parts,
    scored_ids,
    unreadable,
)
from splade_es.engines.base import FIELD, MAX_K, FieldType, check_index_name, check_search
from splade_es.errors import (
    AccessDenied,
    EngineError,
    IndexMismatch,
    IndexMissing,
    QueryError,
    Unavailable,
)
from splade_es.mappings import index_body
from splade_es.records import (
    Action,
    Clause,
    Document,
    Hit,
    IndexMeta,
    IndexStats,
    ItemResult,
    ScoredId,
    Source,
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


#: In the answer of a server without that type, in all the ways that versions word it.
NO_RANK_FEATURES = "type [rank_features]"
# The note of an index that others made and a backfill gave features.
_FILLED = "made by others"
#: Seconds for a force-merge: a large index takes hours.
MERGE_TIMEOUT = 24 * 3600.0


class ServerEngine(ABC):
    """An `Engine` on a server. Safe to use from several threads."""

    name: str
    field_types: tuple[FieldType, ...]
    _feature_types: Sequence[dict[str, Any]]  # mappings of the features, the preferred one first
    _whole_source: Any = True  # as a search must ask for it

    def __init__(self, address: Address, version: str) -> None:
        self.version = version
        self.where = address.url
        self._server = f"{self.name} at {self.where}"  # as errors call it
        self._field_types: dict[str, FieldType] = {}

    @abstractmethod
    def _send(
        self, method: str, path: str, body: bytes | None, timeout: float | None = None
    ) -> Any:
        """The parsed answer; for HEAD, whether there is such a thing. Raises EngineError.

        timeout: in seconds, if it is to be another than TIMEOUT.
        """

    @abstractmethod
    def create(
        self,
        index: str,
        meta: IndexMeta,
        field_type: FieldType | None = None,
        source: Source = "full",
    ) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def _request(
        self, method: str, index: str, action: str = "", *lines: Any, timeout: float | None = None
    ) -> Any:
        check_index_name(index)
        body = b"".join([_json_line(line) for line in lines])
        answer = self._send(method, f"/{quote(index, safe='')}{action}", body or None, timeout)
        if not isinstance(answer, (dict, bool)):
            raise unreadable(self._server)
        return answer

    def _put(self, index: str, body: dict[str, Any]) -> None:
        self._field_types.pop(index, None)
        self._request("PUT", index, "", body)

    def exists(self, index: str) -> bool:
        try:
            return bool(self._request("HEAD", index))
        except AccessDenied as error:  # an answer without a body, which would name it
            error.message += f" for the index {index!r}"
            raise

    def _mapping(self, index: str) -> dict[str, Any]:
        """The mapping of an index that splade-es made. Raises IndexMissing, IndexMismatch."""
        answer = self._request("GET", index, "/_mapping")
        mapping: dict[str, Any] = next(iter(answer.values()))["mappings"]  # by name, not alias
        if not mapping.get("_meta", {}).get("splade_es"):
            raise IndexMismatch(
                f"splade-es did not make the index {index!r} on {self._server}",
                "Choose another --index.",
            )
        field_type: FieldType = mapping["properties"][FIELD]["type"]
        self._field_types[index] = field_type
        return mapping

    def _field_type(self, index: str) -> FieldType:
        if index not in self._field_types:
            self._mapping(index)
        return self._field_types[index]

    def meta(self, index: str) -> IndexMeta:
        stored = self._mapping(index)["_meta"]["splade_es"]
        try:
            return IndexMeta(**{field.name: stored[field.name] for field in fields(IndexMeta)})
        except KeyError as exc:
            raise IndexMismatch(
                f"The index {index!r} was made by splade-es {stored.get('toolkit')}, "
                f"which does not say its {exc.args[0]}",
                "Index the corpus again.",
            ) from exc

    def settings(self, index: str) -> dict[str, Any]:
        answer = self._request("GET", index, "/_settings")
        settings: dict[str, Any] = next(iter(answer.values()))["settings"]["index"]
        return settings

    def apply(self, index: str, settings: Mapping[str, Any]) -> None:
        self._request("PUT", index, "/_settings", {"index": settings})

    def force_merge(self, index: str) -> None:
        self._request("POST", index, "/_forcemerge?max_num_segments=1", timeout=MERGE_TIMEOUT)

    def alias(self, name: str) -> list[str]:
        try:
            answer = self._request("GET", name, "/_alias")
        except IndexMissing:
            return []
        return sorted(index for index, found in answer.items() if name in found["aliases"])

    def move_alias(self, name: str, before: Sequence[str], index: str) -> None:
        check_index_name(name)
        actions: list[Any] = [{"remove": {"index": old, "alias": name}} for old in before]
        actions.append({"add": {"index": index, "alias": name}})
        self._send("POST", "/_aliases", json.dumps({"actions": actions}).encode())

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
        return bulk_results(self._request("POST", index, action, *lines), self._server)

    def refresh(self, index: str) -> None:
        self._request("POST", index, "/_refresh")

    def count(self, index: str) -> int:
        answer = self._request("GET", index, "/_count")
        if failed := answer["_shards"]["failed"]:
            raise Unavailable(f"{failed} shards of {index!r} on {self._server} do not answer")
        count: int = answer["count"]
        return count

    def noted(self, index: str) -> dict[str, Any]:
        """What `note` has left in the mapping's `_meta`."""
        answer = self._request("GET", index, "/_mapping")
        noted: dict[str, Any] = next(iter(answer.values()))["mappings"].get("_meta", {})
        notes: dict[str, Any] = noted.get("splade_es_notes", {})
        return notes

    def note(self, index: str, notes: Mapping[str, Any]) -> None:
        answer = self._request("GET", index, "/_mapping")
        meta = next(iter(answer.values()))["mappings"].get("_meta", {})
        merged = {**meta.get("splade_es_notes", {}), **notes}
        self._request("PUT", index, "/_mapping", {"_meta": {**meta, "splade_es_notes": merged}})

    def has_features(self, index: str) -> bool:
        """Whether splade-es made this index, or added features to it."""
        answer = self._request("GET", index, "/_mapping")
        if len(answer) > 1:
            raise EngineError(
                f"{index!r} stands for {len(answer)} indices on {self._server}", "Name one of them."
            )
        (mapping,) = (found["mappings"] for found in answer.values())
        return "splade_es" in mapping.get("_meta", {})

    def add_features(self, index: str, meta: IndexMeta) -> None:
        """Add the fields of the features, and what is to be remembered, to the mapping of an index
        that is there. Raises IndexMismatch if it has fields of these names."""
        answer = self._request("GET", index, "/_mapping")
        mapping = next(iter(answer.values()))["mappings"]
        for features in self._feature_types:
            body = index_body(meta, features)["mappings"]
            names = [name for name in body["properties"] if name.startswith("splade")]
            if taken := mapping.get("properties", {}).keys() & names:
                raise IndexMismatch(
                    f"The index {index!r} on {self._server} has a field {min(taken)!r} already",
                    "Reindex it without that field.",
                )
            properties = {name: body["properties"][name] for name in names}
            remembered = {
                **mapping.get("_meta", {}), **body["_meta"], "splade_es_notes": {_FILLED: True}
            }  # fmt: skip
            try:
                self._request(
                    "PUT", index, "/_mapping", {"_meta": remembered, "properties": properties}
                )
                return
            except EngineError as error:
                if features is self._feature_types[-1] or NO_RANK_FEATURES not in error.message:
                    raise

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

    def search(self, index: str, clauses: Sequence[Clause], k: int) -> list[Hit]:
        check_search([clauses], k)
        self._field_type(index)  # an index of someone else is an error, whatever the clauses
        if not clauses:  # an empty `bool` matches everything
            return []
        body = {
            "size": k,
            "query": self._query(index, clauses),
            "track_total_hits": False,
            "_source": {"excludes": [FIELD, "splade_id"]},
        }
        answer = self._request("POST", index, "/_search?allow_partial_search_results=false", body)
        return [
            Hit(hit["_id"], float(hit["_score"]), hit.get("_source", {}))
            for hit in answer["hits"]["hits"]
        ]

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
        return self._msearch(index, [{"match": {"text": {"query": text}}} for text in texts], k)

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
                "_source": ["title", "text"],
            }
            action = "/_search?allow_partial_search_results=false"
            for hit in self._request("POST", index, action, body)["hits"]["hits"]:
                source = hit.get("_source", {})
                title, text = (str(source.get(key) or "") for key in ("title", "text"))
                found[hit["_id"]] = Document(hit["_id"], text, title)
        return [found[id] for id in ids if id in found]

    def explain(self, index: str, clauses: Sequence[Clause], id: str) -> dict[str, float]:
        check_search([clauses], 1)
        named = [
            {"bool": {"must": [self._query(index, [clause])], "_name": clause.feature}}
            for clause in clauses
        ]
        body = {"query": {"bool": {"filter": [{"ids": {"values": [id]}}], "should": named}}}
        action = "/_search?include_named_queries_score=true&_source=false"
        hits = self._request("POST", index, action, body)["hits"]["hits"]
        if not hits:
            raise QueryError(
                f"There is no document {id!r} in the index {index!r}", "Ask for the id of a hit."
            )
        contributions: dict[str, float] = hits[0].get("matched_queries") or {}
        return contributions

    def stats(self, index: str) -> IndexStats:
        field_type = self._mapping(index)["properties"][FIELD]["type"]
        action = "/_stats/store,segments?include_segment_file_sizes=true"
        primaries = self._request("GET", index, action)["_all"]["primaries"]
        files = primaries["segments"].get("file_sizes", {})
        sizes = {name: file["size_in_bytes"] for name, file in files.items()}
        return IndexStats(
            self.count(index), primaries["store"]["size_in_bytes"], field_type, parts(sizes)
        )

    def indices(self) -> list[str]:
        answer = self._send("GET", "/_mapping?filter_path=*.mappings._meta.splade_es.toolkit", None)
        return sorted(answer or {})

    def delete(self, index: str) -> None:
        self._mapping(index)  # never remove what splade-es did not make
        if self.noted(index).get(_FILLED):
            raise IndexMismatch(
                f"The index {index!r} on {self._server} is of somebody else, and only has features "
                "of splade-es",
                "Delete it with the server's own API, if you must.",
            )
        self._request("DELETE", index)
        self._field_types.pop(index, None)


def _json_line(record: Any) -> bytes:
    try:
        line = orjson.dumps(record, default=_raw, option=orjson.OPT_APPEND_NEWLINE)
        if b"null" not in line:  # which may be a number that is none, and must not pass for null
            return line
    except TypeError:  # integers of more than 64 bits, deep objects, lone surrogates
        pass
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=dict)
    # A query typed in another encoding may hold lone surrogates, which no server minds.
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _raw(features: Any) -> orjson.Fragment:
    if isinstance(features, Features):
        return orjson.Fragment(features.json)
    raise TypeError
