"""What only a server can do with an index: settings, notes, its alias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any
from urllib.parse import quote

from splade_es.engines.base import check_index_name
from splade_es.engines.mapped_fields import mapped_fields
from splade_es.engines.shapes import expect
from splade_es.engines.transport import Known, Transport
from splade_es.errors import EngineError, IndexMismatch, IndexMissing, NotPublished
from splade_es.fields import FIELD

#: Documents of one request: some MB of text.
DOCUMENTS_PER_REQUEST = 500
#: Searches fail rather than answer from some of the shards.
WHOLE = "allow_partial_search_results=false"
#: Keys of the mapping's `_meta`, and notes: that a backfill added features to an index that others
#: made, the name of their field if it is another one, and the fields whose text it encoded.
META, NOTES = "splade_es", "splade_es_notes"
FOREIGN, FEATURES_FIELD, TEXT_FIELDS = "made by others", "features field", "fields"
# A note of the indices that an index takes the place of, and that are deleted then.
_REPLACES = "replaces"


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

    def answer(
        self, method: str, action: str, *lines: Any, once: bool = False
    ) -> AbstractContextManager[Any]:
        """The answer to a request, for the block that reads it; see `Transport.answer`.

        once: sending it again is not the same, or is for the caller.
        """
        retry = self._retry and not once
        return self.transport.answer(method, self._path(action), *lines, retry=retry)

    def send(
        self,
        method: str,
        action: str,
        *lines: Any,
        timeout: float | None = None,
        once: bool = False,
    ) -> None:
        """Send a request whose answer only says that it is done. once: as for `answer`."""
        retry = self._retry and not once
        self.transport.command(method, self._path(action), *lines, timeout=timeout, retry=retry)

    def _path(self, action: str) -> str:
        check_index_name(self.name)
        return f"/{quote(self.name, safe='')}{action}"

    def mapping(self) -> dict[str, Any]:
        """The mapping of any index. Raises EngineError for an alias of several indices."""
        with self.answer("GET", "/_mapping") as answer:
            if len(answer) > 1:
                raise EngineError(
                    f"{self.name!r} stands for {len(answer)} indices on {self.transport.label}",
                    "Name one of them.",
                )
            (found,) = answer.values()  # by the name of the index, where this one is an alias
            mapping = expect(dict, found["mappings"])
            mapped_fields(mapping)  # whoever reads it may rely on its shape
            expect(dict, expect(dict, mapping.get("_meta", {})).get(NOTES, {}))
            return mapping

    def own_mapping(self) -> dict[str, Any]:
        """The mapping of an index that splade-es made. Raises IndexMissing, IndexMismatch."""
        mapping = self.mapping()
        meta = mapping.get("_meta", {})
        notes = meta.get(NOTES, {})
        name = notes.get(FEATURES_FIELD, FIELD)
        mapped = mapped_fields(mapping)
        fields = [
            field
            for field in self.transport.feature_fields
            if name in mapped and mapped[name].type == field.type
        ]
        if not (fields and isinstance(meta.get(META), dict)):
            raise IndexMismatch(
                f"splade-es did not make the index {self.label}",
                "Choose another index, or add features to the documents of this one with backfill.",
            )
        text_fields = {
            text: mapped[text].nested if text in mapped else ""
            for text in notes.get(TEXT_FIELDS, [])
        }
        self.transport.known[self.name] = Known(fields[0], name, text_fields)
        return mapping

    def stored_meta(self) -> dict[str, Any]:
        """What `index_body` wrote of the model. Raises IndexMissing, IndexMismatch."""
        stored: dict[str, Any] = self.own_mapping()["_meta"][META]
        return stored

    def settings(self) -> dict[str, Any]:
        """The settings, as the server writes them."""
        with self.answer("GET", "/_settings") as answer:
            return expect(dict, next(iter(answer.values()))["settings"]["index"])

    def notes(self) -> dict[str, Any]:
        """What `write_notes` left in the mapping's `_meta`."""
        notes: dict[str, Any] = self.mapping().get("_meta", {}).get(NOTES, {})
        return notes

    def write_notes(self, notes: Mapping[str, Any]) -> None:
        """Keep notes beside those of other names."""
        meta = self.mapping().get("_meta", {})
        merged = {**meta.get(NOTES, {}), **notes}
        self.send("PUT", "/_mapping", {"_meta": {**meta, NOTES: merged}})

    def check_own(self) -> None:
        """See `EngineIndex.check_own`."""
        if self.own_mapping()["_meta"].get(NOTES, {}).get(FOREIGN):
            raise IndexMismatch(
                f"Others made the index {self.label}; splade-es only added features",
                "Choose another index; or use backfill for the features, and the server's own API "
                "for the rest.",
            )

    def known(self) -> Known:
        """How the index holds features, see `Known`. Raises as `own_mapping`."""
        if self.name not in self.transport.known:
            self.own_mapping()
        return self.transport.known[self.name]

    def uuid(self) -> str:
        """The uuid of the index."""
        action = "/_settings/index.uuid?filter_path=*.settings.index.uuid"
        with self.answer("GET", action) as answer:
            return str(next(iter(answer.values()))["settings"]["index"]["uuid"])

    def targets(self) -> list[str]:
        """The indices that an alias of this name points to; [] if there is no such alias."""
        try:
            with self.answer("GET", "/_alias") as answer:
                return sorted(
                    index for index, found in answer.items() if self.name in found["aliases"]
                )
        except IndexMissing:
            return []

    def delete(self) -> None:
        """Delete the index; behind an alias, the one index that it points to."""
        name = next(iter(self.targets()), self.name)
        self.transport.command("DELETE", f"/{quote(name, safe='')}")
        self.forget()

    def replace_with(self, other: str) -> None:
        """Make this name an alias of another index, and delete what it stood for.

        An index of this name goes in the same step, which fails the searches that it answers at
        that moment. One behind an alias goes afterwards, when nothing finds it by this name.
        """
        if present := self.targets():
            new = IndexRequests(self.transport, other, self._retry)
            if before := [old for old in present if old != other]:
                new.write_notes({_REPLACES: before})  # a resumed run deletes what a killed one left
                self.move_alias(before, other)
            for old in new.notes().get(_REPLACES) or []:
                with suppress(IndexMissing):
                    self.transport.command("DELETE", f"/{quote(old, safe='')}")
            new.write_notes({_REPLACES: None})
        else:
            with self.answer("HEAD", "") as exists:
                replaced = [self.name] if exists else []
            self._point_to(other, [{"remove_index": {"index": old}} for old in replaced])

    def move_alias(self, before: Sequence[str], index: str) -> None:
        """Let the alias of this name point to one index and no longer to those before."""
        remove = [
            {"remove": {"index": old, "alias": self.name, "must_exist": True}} for old in before
        ]
        self._point_to(index, remove, before)

    def _point_to(self, index: str, actions: list[Any], before: Sequence[str] = ()) -> None:
        check_index_name(self.name)
        # a second write index is refused, so that two processes cannot point it to one each
        add = {"add": {"index": index, "alias": self.name, "is_write_index": True}}
        try:
            self.transport.command("POST", "/_aliases", {"actions": [*actions, add]})
        except EngineError as error:
            if (found := self.targets()) == sorted(before):
                raise
            if found != [index]:  # otherwise the answer was lost, or a killed run was as fast
                raise NotPublished(
                    f"Another load has moved {self.name!r} to {' and '.join(found)} meanwhile",
                    f"The index {index!r} is kept; publish it with `resume` if it is the later.",
                ) from error
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
        self.move = requests.move_alias
