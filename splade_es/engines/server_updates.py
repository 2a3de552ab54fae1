"""Features for the documents of an index of a server that others made.

A document is changed by updates alone: the server sets our fields, and keeps all others, its
routing and what it stores beside `_source`, and no ingest pipeline runs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from splade_es.engines.mapped_fields import mapped_fields, not_in_source
from splade_es.engines.responses import search_hits, text_of
from splade_es.engines.server_admin import (
    DOCUMENTS_PER_REQUEST,
    FEATURES_FIELD,
    FOREIGN,
    META,
    NOTES,
    TEXT_FIELDS,
    WHOLE,
    IndexRequests,
)
from splade_es.engines.shapes import expect
from splade_es.errors import EngineError, FieldTypeMissing, IndexMismatch
from splade_es.fields import COMPANIONS, FIELD, HASH_FIELD
from splade_es.index_meta import IndexMeta
from splade_es.mappings import IndexDesign, index_body
from splade_es.records import Stored, Version


class ServerUpdates:
    """`IndexUpdates` on a server."""

    def __init__(self, requests: IndexRequests) -> None:
        self._requests = requests

    def features_field(self) -> str | None:
        return _features_field(self._requests.mapping())

    def check(self, names: Sequence[str]) -> None:
        mapping = self._check_updates()
        self._check_mapped(mapping, names)
        missing, documents = set(names), 0
        for shard in range(self.shards()):
            for stored in self.changes(shard, names):
                documents += 1
                missing -= {name for name in missing if text_of(stored.source, [name])}
                if not missing:
                    return
        if not documents:
            raise EngineError(
                f"The index {self._requests.label} has no documents", "Fill it first."
            )
        unknown = [name for name in names if name in missing]
        raise EngineError(
            f"No document of {self._requests.name!r} has text in {' or '.join(unknown)}",
            _near(mapping, unknown[0]),
        )

    def _check_updates(self) -> dict[str, Any]:
        """The mapping. Raises EngineError where an update is impossible, or loses something."""
        with self._requests.answer("GET", "/_settings") as answer:
            in_stream = any(index.startswith(".ds-") for index in answer)
            settings = expect(dict, next(iter(answer.values()))["settings"]["index"])
        if in_stream:
            raise EngineError(
                f"{self._requests.label} is a data stream, whose documents cannot be updated",
                "Reindex it into an index.",
            )
        if settings.get("mode") == "time_series":
            raise EngineError(
                f"{self._requests.label} is a time series, whose documents cannot be updated",
                "Reindex it into an index of another mode.",
            )
        with self._requests.answer("GET", "/_alias") as answer:
            aliases = {
                index: found["aliases"].get(self._requests.name, {})
                for index, found in answer.items()
            }
            special = [
                index
                for index, alias in aliases.items()
                if alias.keys() & {"index_routing", "search_routing"}
                or alias.get("is_write_index") is False
            ]
        if special:
            raise EngineError(
                f"{self._requests.label} is an alias that routes its documents or takes none",
                f"Name the index {special[0]!r}.",
            )
        mapping = self._requests.mapping()
        if mapping.get("enabled") is False:
            raise EngineError(
                f"The index {self._requests.label} has no fields: its mapping is not `enabled`",
                "Reindex it into an index with fields.",
            )
        ours = (_features_field(mapping), *COMPANIONS)
        if lost := [name for name in not_in_source(mapping) if name not in ours]:
            further = f" and {len(lost) - 5:,} more" if len(lost) > 5 else ""
            raise EngineError(
                f"The `_source` of the index {self._requests.label} is without "
                f"{', '.join(map(repr, lost[:5]))}{further}, which an update would lose",
                "Index the documents anew, from where they came, into an index with all fields in "
                "`_source`.",
            )
        return mapping

    def _check_mapped(self, mapping: dict[str, Any], names: Sequence[str]) -> None:
        """Raise EngineError for a field of the mapping that is no text."""
        mapped = mapped_fields(mapping)
        for name in names:
            field = mapped.get(name)
            if field is None or field.is_text:  # an index may hold what its mapping does not say
                continue
            label = f"The field {name!r} of the index {self._requests.label}"
            if field.of:
                raise EngineError(f"{label} only shows {field.of!r}", f"Name {field.of!r}.")
            raise EngineError(f"{label} is of type {field.type}, not text", _near(mapping, name))

    def add_features(self, meta: IndexMeta, features_field: str) -> None:
        mapping = self._requests.mapping()
        if taken := self._taken(mapping, {features_field, *COMPANIONS}):
            name, hint = features_field, "Set `features_field` to a new name."
            if further := taken - {features_field}:
                name, hint = min(further), "Reindex it without that field."
            raise IndexMismatch(
                f"The index {self._requests.label} already has a field {name!r}", hint
            )
        fields = self._requests.transport.feature_fields
        notes: dict[str, Any] = {FOREIGN: True}
        if features_field != FIELD:
            notes[FEATURES_FIELD] = features_field
        for field in fields:
            body = index_body(meta, field.mapping, IndexDesign(source="no-vectors"))["mappings"]
            properties = {name: body["properties"][name] for name in COMPANIONS}
            properties[features_field] = field.mapping
            remembered = {**mapping.get("_meta", {}), **body["_meta"], NOTES: notes}
            try:
                self._requests.send(
                    "PUT", "/_mapping", {"_meta": remembered, "properties": properties}
                )
                self._requests.forget()
                return
            except FieldTypeMissing:
                if field is fields[-1]:
                    raise

    def _taken(self, mapping: dict[str, Any], names: set[str]) -> set[str]:
        """Those of the names that the index, or a document, has already."""
        taken = names & {*mapping.get("properties", {}), *mapping.get("runtime", {})}
        if not taken and mapping.get("dynamic") in (False, "false"):  # then a mapping does not say
            for shard in range(self.shards()):
                for stored in self.changes(shard, [*names]):
                    taken |= names & stored.source.keys()
        return taken

    def note_text_fields(self, names: Sequence[str]) -> None:
        self._requests.write_notes({TEXT_FIELDS: list(names)})
        self._requests.forget()

    def shards(self) -> int:
        with self._requests.answer("GET", "/_settings/index.number_of_shards") as answer:
            return int(next(iter(answer.values()))["settings"]["index"]["number_of_shards"])

    def changes(self, shard: int, names: Sequence[str]) -> Iterator[Stored]:
        body: dict[str, Any] = {
            "size": DOCUMENTS_PER_REQUEST,
            "sort": ["_seq_no"],
            "seq_no_primary_term": True,
            "track_total_hits": False,
            "_source": [*names, HASH_FIELD],
            "stored_fields": [HASH_FIELD],  # beside `_source`, where that is without vectors
        }
        action = f"/_search?preference=_shards:{shard}&{WHOLE}"
        while True:
            with self._requests.answer("POST", action, body) as answer:
                hits = search_hits(answer)
                found = [_stored(hit) for hit in hits]
                body["search_after"] = hits[-1]["sort"] if hits else []
            yield from found
            if not found:
                return


def _features_field(mapping: dict[str, Any]) -> str | None:
    meta = mapping.get("_meta", {})
    if META not in meta:
        return None
    name: str = meta.get(NOTES, {}).get(FEATURES_FIELD, FIELD)
    return name


def _near(mapping: dict[str, Any], name: str) -> str:
    """What else could be named."""
    texts = [
        text
        for text, field in mapped_fields(mapping).items()
        if field.is_text and text not in (name, *COMPANIONS)
    ]
    near = [text for text in texts if text.startswith(f"{name}.")]
    near = near or difflib.get_close_matches(name, texts) or texts[:5]
    return f"Its fields with text are {', '.join(map(repr, near))}." if near else ""


def _stored(hit: dict[str, Any]) -> Stored:
    version = Version(hit["_seq_no"], hit["_primary_term"], hit.get("_routing"))
    source = expect(dict, hit.get("_source", {}))
    (hash,) = hit.get("fields", {}).get(HASH_FIELD) or [source.get(HASH_FIELD)]
    return Stored(expect(str, hit["_id"]), version, source, hash)
