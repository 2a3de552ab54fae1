"""What only a server can do with an index: settings, notes, its alias, other people's documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from splade_es.engines.base import check_index_name
from splade_es.engines.transport import FeatureField, Transport
from splade_es.errors import EngineError, FieldTypeMissing, IndexMismatch, IndexMissing
from splade_es.fields import FIELD, PREFIX
from splade_es.index_meta import IndexMeta
from splade_es.mappings import index_body
from splade_es.records import Stored, Version

#: Documents of one request: some MB of text.
DOCUMENTS_PER_REQUEST = 500
#: Searches fail rather than answer from some of the shards.
WHOLE = "allow_partial_search_results=false"
# Keys of the mapping's `_meta`, and notes: that a backfill added features to an index that others
# made, and the fields whose text it encoded.
_META, _NOTES = "splade_es", "splade_es_notes"
_FOREIGN, _TEXT_FIELDS = "made by others", "fields"


class IndexRequests:
    """Requests about one index of a server, and its mapping. See `Engine.index` for `retry`."""

    def __init__(self, transport: Transport, name: str, retry: bool) -> None:
        self.transport = transport
        self.name = name
        self._retry = retry

    @property
    def label(self) -> str:
        """What errors call the index: "'articles' on elasticsearch at http://host:9200"."""
        return f"{self.name!r} on {self.transport.label}"

    def send(
        self,
        method: str,
        action: str,
        *lines: Any,
        timeout: float | None = None,
        once: bool = False,
    ) -> Any:
        """The answer to a request. once: sending it again is not the same, or is for the caller."""
        check_index_name(self.name)
        return self.transport.request(
            method,
            f"/{quote(self.name, safe='')}{action}",
            *lines,
            timeout=timeout,
            retry=self._retry and not once,
        )

    def mapping(self) -> dict[str, Any]:
        """The mapping of any index. Raises EngineError for an alias of several indices."""
        answer = self.send("GET", "/_mapping")
        if len(answer) > 1:
            raise EngineError(
                f"{self.name!r} is an alias of {len(answer)} indices on {self.transport.label}",
                "Name one of them.",
            )
        (found,) = answer.values()  # by the name of the index, where this one is an alias
        mapping: dict[str, Any] = found["mappings"]
        return mapping

    def own_mapping(self) -> dict[str, Any]:
        """The mapping of an index that splade-es made. Raises IndexMissing, IndexMismatch."""
        mapping = self.mapping()
        if not mapping.get("_meta", {}).get(_META):
            raise IndexMismatch(
                f"splade-es did not make the index {self.label}", "Choose another index."
            )
        kind = mapping["properties"][FIELD]["type"]
        field = next(field for field in self.transport.feature_fields if field.type == kind)
        notes = mapping["_meta"].get(_NOTES, {})
        self.transport.known[self.name] = field, notes.get(_TEXT_FIELDS, [])
        return mapping

    def stored_meta(self) -> dict[str, Any]:
        """What `index_body` wrote of the model. Raises IndexMissing, IndexMismatch."""
        stored: dict[str, Any] = self.own_mapping()["_meta"][_META]
        return stored

    def settings(self) -> dict[str, Any]:
        """The settings, as the server writes them."""
        answer = self.send("GET", "/_settings")
        settings: dict[str, Any] = next(iter(answer.values()))["settings"]["index"]
        return settings

    def notes(self) -> dict[str, Any]:
        """What `write_notes` left in the mapping's `_meta`."""
        notes: dict[str, Any] = self.mapping().get("_meta", {}).get(_NOTES, {})
        return notes

    def write_notes(self, notes: Mapping[str, Any]) -> None:
        """Keep notes beside those of other names."""
        meta = self.mapping().get("_meta", {})
        merged = {**meta.get(_NOTES, {}), **notes}
        self.send("PUT", "/_mapping", {"_meta": {**meta, _NOTES: merged}})

    def is_foreign(self) -> bool:
        """Whether others made the index, and splade-es only added features."""
        return bool(self.own_mapping()["_meta"].get(_NOTES, {}).get(_FOREIGN))

    def known(self) -> tuple[FeatureField, list[str]]:
        """The field of the features; and the fields of the text, where a backfill encoded them."""
        if self.name not in self.transport.known:
            self.own_mapping()
        return self.transport.known[self.name]

    def uuid(self) -> str:
        """The uuid of the index."""
        answer = self.send("GET", "/_settings/index.uuid?filter_path=*.settings.index.uuid")
        return str(next(iter(answer.values()))["settings"]["index"]["uuid"])

    def targets(self) -> list[str]:
        """The indices that an alias of this name points to; [] if there is no such alias."""
        try:
            answer = self.send("GET", "/_alias")
        except IndexMissing:
            return []
        return sorted(index for index, found in answer.items() if self.name in found["aliases"])

    def delete(self) -> None:
        """Delete the index; behind an alias, the one index that it points to."""
        name = next(iter(self.targets()), self.name)
        self.transport.request("DELETE", f"/{quote(name, safe='')}")
        self.forget()

    def replace_with(self, other: str) -> None:
        """Make this name an alias of another index, and delete what it stood for, in one step."""
        check_index_name(self.name)
        actions: list[Any] = [{"add": {"index": other, "alias": self.name}}]
        for old in self.targets() or [self.name]:
            actions.insert(0, {"remove_index": {"index": old}})
        self.transport.request("POST", "/_aliases", {"actions": actions})
        self.forget()

    def forget(self) -> None:
        """The index is created or deleted: what is known of it no longer holds."""
        self.transport.known.pop(self.name, None)


class ServerSettings:
    """`IndexSettings` on a server."""

    def __init__(self, requests: IndexRequests) -> None:
        self.read = requests.settings
        self.read_notes = requests.notes
        self.write_notes = requests.write_notes
        self._requests = requests

    def write(self, settings: Mapping[str, Any], timeout: float | None = None) -> None:
        once = timeout is not None
        self._requests.send("PUT", "/_settings", {"index": settings}, timeout=timeout, once=once)


class ServerAlias:
    """`IndexAlias` on a server."""

    def __init__(self, requests: IndexRequests) -> None:
        self.targets = requests.targets
        self._requests = requests

    def move(self, before: Sequence[str], index: str) -> None:
        name = self._requests.name
        check_index_name(name)
        actions: list[Any] = [
            {"remove": {"index": old, "alias": name, "must_exist": True}} for old in before
        ]
        actions.append({"add": {"index": index, "alias": name}})
        self._requests.transport.request("POST", "/_aliases", {"actions": actions})
        self._requests.forget()


class ServerUpdates:
    """`IndexUpdates` on a server."""

    def __init__(self, requests: IndexRequests) -> None:
        self._requests = requests

    def has_features(self) -> bool:
        return _META in self._requests.mapping().get("_meta", {})

    def add_features(self, meta: IndexMeta) -> None:
        mapping = self._requests.mapping()
        fields = self._requests.transport.feature_fields
        for field in fields:
            body = index_body(meta, field.mapping)["mappings"]
            names = [name for name in body["properties"] if name.startswith(PREFIX)]
            if taken := mapping.get("properties", {}).keys() & names:
                raise IndexMismatch(
                    f"The index {self._requests.label} already has a field {min(taken)!r}",
                    "Reindex it without that field.",
                )
            properties = {name: body["properties"][name] for name in names}
            remembered = {
                **mapping.get("_meta", {}), **body["_meta"], _NOTES: {_FOREIGN: True}
            }  # fmt: skip
            try:
                self._requests.send(
                    "PUT", "/_mapping", {"_meta": remembered, "properties": properties}
                )
                return
            except FieldTypeMissing:
                if field is fields[-1]:
                    raise

    def note_text_fields(self, names: Sequence[str]) -> None:
        self._requests.write_notes({_TEXT_FIELDS: list(names)})
        self._requests.forget()

    def shards(self) -> int:
        return int(self._requests.settings()["number_of_shards"])

    def changes(self, shard: int) -> Iterator[Stored]:
        body: dict[str, Any] = {
            "size": DOCUMENTS_PER_REQUEST,
            "sort": ["_seq_no"],
            "seq_no_primary_term": True,
            "track_total_hits": False,
            "_source": self._requests.transport.whole_source,
        }
        action = f"/_search?preference=_shards:{shard}&{WHOLE}"
        while hits := self._requests.send("POST", action, body)["hits"]["hits"]:
            for hit in hits:
                version = Version(hit["_seq_no"], hit["_primary_term"], hit.get("_routing"))
                yield Stored(hit["_id"], version, hit.get("_source", {}))
            body["search_after"] = hits[-1]["sort"]
