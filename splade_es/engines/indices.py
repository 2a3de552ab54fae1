"""The indices of a server as wholes: mapping, settings, notes, aliases, sizes.

Elasticsearch and OpenSearch differ in the client and the field type; a subclass sends one request
and maps its client's exceptions. Paths, bodies and answers are here and in `server`.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any
from urllib.parse import quote

import orjson

from splade_es.engines.address import Address
from splade_es.engines.answers import parts, unreadable
from splade_es.engines.base import FIELD, FieldType, check_index_name
from splade_es.engines.retry import ATTEMPTS, pause
from splade_es.errors import AccessDenied, EngineError, IndexMismatch, IndexMissing, Unavailable
from splade_es.mappings import index_body
from splade_es.records import IndexMeta, IndexStats, Source

#: In the answer of a server without that type, in all the ways that versions word it.
NO_RANK_FEATURES = "type [rank_features]"
# Of the mapping's `_meta`, beside what `create` was given.
_NOTES = "splade_es_notes"
# The note of an index that others made and a backfill gave features.
_FILLED = "made by others"
#: The note of the fields whose text a backfill has encoded.
FIELDS = "fields"
#: Seconds for a force-merge: a large index takes hours.
MERGE_TIMEOUT = 24 * 3600.0


class ServerIndices(ABC):
    """Half of an `Engine` on a server. Safe to use from several threads.

    patient: whether a request that may pass later is sent again for two minutes, as a load of hours
    would want it, or is an error at once. It is never so with `bulk`, whose caller knows better.
    """

    name: str
    field_types: tuple[FieldType, ...]
    _feature_types: Sequence[dict[str, Any]]  # mappings of the features, the preferred one first

    def __init__(self, address: Address, version: str, patient: bool = False) -> None:
        self.version = version
        self.where = address.url
        self._server = f"{self.name} at {self.where}"  # as errors call it
        self._patient = patient
        self._field_types: dict[str, FieldType] = {}
        self._filled: dict[str, list[str]] = {}  # fields of text, where they are not ours

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
        self,
        method: str,
        index: str,
        action: str = "",
        *lines: Any,
        timeout: float | None = None,
        once: bool = False,
    ) -> Any:
        """once: where sending it again is not the same, or is for the caller."""
        check_index_name(index)
        path = f"/{quote(index, safe='')}{action}"
        body = b"".join([_json_line(line) for line in lines]) or None
        for attempt in range(ATTEMPTS):
            try:
                answer = self._send(method, path, body, timeout)
                break
            except Unavailable as error:
                if once or not self._patient or attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(pause(attempt, error))
        if not isinstance(answer, (dict, bool)):
            raise unreadable(self._server)
        return answer

    def _put(self, index: str, body: dict[str, Any]) -> None:
        self._field_types.pop(index, None)
        self._request("PUT", index, "", body, once=True)

    def exists(self, index: str) -> bool:
        try:
            return bool(self._request("HEAD", index, once=True))
        except AccessDenied as error:  # an answer without a body, which would name it
            error.message += f" for the index {index!r}"
            raise

    def _any_mapping(self, index: str) -> dict[str, Any]:
        """Raises EngineError for an alias of several indices."""
        answer = self._request("GET", index, "/_mapping")
        if len(answer) > 1:
            raise EngineError(
                f"{index!r} stands for {len(answer)} indices on {self._server}", "Name one of them."
            )
        (found,) = answer.values()  # by the name of the index, where this one is an alias
        mapping: dict[str, Any] = found["mappings"]
        return mapping

    def _mapping(self, index: str) -> dict[str, Any]:
        """The mapping of an index that splade-es made. Raises IndexMissing, IndexMismatch."""
        mapping = self._any_mapping(index)
        if not mapping.get("_meta", {}).get("splade_es"):
            raise IndexMismatch(
                f"splade-es did not make the index {index!r} on {self._server}",
                "Choose another --index.",
            )
        field_type: FieldType = mapping["properties"][FIELD]["type"]
        self._field_types[index] = field_type
        self._filled[index] = mapping["_meta"].get(_NOTES, {}).get(FIELDS, [])
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
        notes: dict[str, Any] = self._any_mapping(index).get("_meta", {}).get(_NOTES, {})
        return notes

    def note(self, index: str, notes: Mapping[str, Any]) -> None:
        meta = self._any_mapping(index).get("_meta", {})
        merged = {**meta.get(_NOTES, {}), **notes}
        self._request("PUT", index, "/_mapping", {"_meta": {**meta, _NOTES: merged}})

    def has_features(self, index: str) -> bool:
        """Whether splade-es made this index, or added features to it."""
        return "splade_es" in self._any_mapping(index).get("_meta", {})

    def add_features(self, index: str, meta: IndexMeta) -> None:
        """Add the fields of the features, and what is to be remembered, to the mapping of an index
        that is there. Raises IndexMismatch if it has fields of these names."""
        mapping = self._any_mapping(index)
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
                **mapping.get("_meta", {}), **body["_meta"], _NOTES: {_FILLED: True}
            }  # fmt: skip
            try:
                self._request(
                    "PUT", index, "/_mapping", {"_meta": remembered, "properties": properties}
                )
                return
            except EngineError as error:
                if features is self._feature_types[-1] or NO_RANK_FEATURES not in error.message:
                    raise

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
        meta = self._mapping(index)["_meta"]  # never remove what splade-es did not make
        if meta.get(_NOTES, {}).get(_FILLED):
            raise IndexMismatch(
                f"The index {index!r} on {self._server} is of somebody else, and only has features "
                "of splade-es",
                "Delete it with the server's own API, if you must.",
            )
        self._request("DELETE", index, once=True)
        self._field_types.pop(index, None)


def _json_line(record: Any) -> bytes:
    try:
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        if b"null" not in line:  # which may be a number that is none, and must not pass for null
            return line
    except TypeError:  # integers of more than 64 bits, deep objects, lone surrogates
        pass
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    # A query typed in another encoding may hold lone surrogates, which no server minds.
    return text.encode("utf-8", "surrogatepass") + b"\n"
