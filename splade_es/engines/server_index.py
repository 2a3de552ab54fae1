"""An index of a server: its life, its documents, and searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from splade_es.engines import dsl
from splade_es.engines.base import (
    Engine,
    EngineIndex,
    FieldType,
    IndexAlias,
    IndexSettings,
    IndexUpdates,
    check_field_type,
)
from splade_es.engines.responses import bulk_results, parts, search_hits
from splade_es.engines.server_admin import (
    WHOLE,
    IndexRequests,
    ServerAlias,
    ServerSettings,
)
from splade_es.engines.server_searches import ServerSearches
from splade_es.engines.server_updates import ServerUpdates
from splade_es.engines.shapes import expect, expect_as_many
from splade_es.engines.transport import bulk_lines
from splade_es.errors import (
    AccessDenied,
    FieldTypeMissing,
    IndexMismatch,
    IndexReplaced,
    Unavailable,
)
from splade_es.fields import HASH_FIELD, ID_FIELD
from splade_es.index_meta import IndexMeta
from splade_es.limits import MAX_K
from splade_es.mappings import IndexDesign, index_body
from splade_es.records import Action, IndexStats, ItemResult

#: Seconds for a force-merge: a large index takes hours.
MERGE_TIMEOUT = 24 * 3600.0


class ServerIndex(ServerSearches):
    """An `EngineIndex` on a server. Safe to use from several threads."""

    def __init__(self, engine: Engine, requests: IndexRequests) -> None:
        super().__init__(requests)
        self.engine = engine
        self._uuid: str | None = None  # of the index that this handle is pinned to
        self.settings: IndexSettings | None = ServerSettings(requests)
        self.alias: IndexAlias | None = ServerAlias(requests)
        self.updates: IndexUpdates | None = ServerUpdates(requests)

    # The index as a whole

    def create(
        self,
        meta: IndexMeta,
        *,
        field_type: FieldType | None = None,
        design: IndexDesign = IndexDesign(),  # noqa: B008  frozen
    ) -> None:
        check_field_type(self.engine, field_type)
        self._requests.forget()
        known = self._requests.transport.feature_fields
        fields = [field for field in known if field_type in (None, field.type)]
        for field in fields:
            body = index_body(meta, field.mapping, design)
            if design.source == "no-vectors":
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
            with self._requests.answer("HEAD", "", once=True) as answer:
                return bool(answer)
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
        except ValueError as exc:
            raise IndexMismatch(
                f"What the index {self.name!r} says of its model is damaged: {exc}",
                "Index the corpus again.",
            ) from exc

    def uuid(self) -> str | None:
        return self._requests.uuid()

    def refresh(self) -> None:
        self._requests.send("POST", "/_refresh")

    def force_merge(self) -> None:
        self._requests.send("POST", "/_forcemerge?max_num_segments=1", timeout=MERGE_TIMEOUT)

    def count(self) -> int:
        with self._requests.answer("GET", "/_count") as answer:
            if failed := int(answer["_shards"]["failed"]):
                raise Unavailable(f"{failed} shards of {self._requests.label} do not answer")
            return int(answer["count"])

    def stats(self) -> IndexStats:
        field = self._requests.known().field
        action = "/_stats/store,segments?include_segment_file_sizes=true"
        with self._requests.answer("GET", action) as answer:
            primaries = answer["_all"]["primaries"]
            size = int(primaries["store"]["size_in_bytes"])
            files = primaries["segments"].get("file_sizes", {})
            sizes = {name: int(file["size_in_bytes"]) for name, file in files.items()}
        return IndexStats(self.count(), size, field.type, parts(sizes))

    def check_own(self) -> None:
        self._requests.check_own()

    def delete(self) -> None:
        self._requests.check_own()
        self._requests.delete()

    def replace_with(self, other: EngineIndex) -> None:
        if self.exists():
            self._requests.check_own()
        self._requests.replace_with(other.name)

    # Documents

    def pin(self) -> None:
        self._uuid = self.uuid()

    def _check_uuid(self) -> None:
        uuid = self.uuid()
        if self._uuid not in (None, uuid):
            raise IndexReplaced(
                f"The index {self.name!r} on {self._server} was deleted and created again",
                "Start again.",
            )

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        if not actions:
            return []
        self._check_uuid()  # of a missing index the bulk API would make one, with its own mapping
        lines = [line for action in actions for line in bulk_lines(action)]
        path = "/_bulk?filter_path=items.*.status,items.*.error,items.*.result"
        with self._requests.answer("POST", path, *lines, once=True) as answer:
            return expect_as_many(actions, bulk_results(answer, self._server))

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        body = {"ids": list(ids)}
        parameters = f"_source_includes={HASH_FIELD}&stored_fields={HASH_FIELD}"
        hashes: dict[str, str] = {}
        with self._requests.answer("POST", f"/_mget?{parameters}", body) as answer:
            for doc in expect_as_many(ids, answer["docs"]):
                # where `_source` has no vectors it has no hash either, see `index_body`
                stored = doc.get("fields", {}).get(HASH_FIELD) or [None]
                if found := doc.get("_source", {}).get(HASH_FIELD) or stored[0]:
                    hashes[doc["_id"]] = found
        return hashes

    def ids(self) -> Iterator[str]:
        self._requests.known()
        body: dict[str, Any] = {"size": MAX_K, "sort": [ID_FIELD], **dsl.IDS_ONLY}
        body["query"] = dsl.HAS_ID
        while True:
            with self._requests.answer("POST", f"/_search?{WHOLE}", body) as answer:
                hits = search_hits(answer)
                found = [expect(str, hit["fields"][ID_FIELD][0]) for hit in hits]
                body["search_after"] = hits[-1]["sort"] if hits else []
            yield from found
            if len(found) < MAX_K:
                return
