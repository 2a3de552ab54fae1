"""What a corpus changes in an index that exists.

Unchanged documents need not be encoded again, and documents that the corpus no longer contains can
be deleted.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from splade_es.engines.base import EngineIndex
from splade_es.errors import EngineError
from splade_es.indexing.bulk_sender import BulkSender, Pace
from splade_es.records import Action, Document, Item, ItemResult, document_of, id_hash

# Documents whose hashes are asked for at once.
_WINDOW = 500


class Unchanged:
    """Leaves out the documents that an index has with the same content and settings.

    settings: see `Document.content_hash`. count: of those left out. Of two documents with one
    id the last one wins: from the look into the index until the acknowledgement an id counts as
    changed.
    """

    def __init__(self, index: EngineIndex, settings: str) -> None:
        self.count = 0
        self._index = index
        self._settings = settings
        self._left_out: list[tuple[int, str, str]] = []
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()

    def changed(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items that must be encoded and sent, in order."""
        window: list[Item] = []
        for item in items:
            window.append(item)
            if len(window) == _WINDOW:
                yield from self._changed(window)
                window = []
        yield from self._changed(window)

    def acknowledged(self, ids: Iterable[str]) -> None:
        """Note that these ids are in the index now, or were refused."""
        with self._lock:
            self._under_way.subtract(ids)
            self._under_way = +self._under_way

    def left_out(self) -> list[tuple[int, str, str]]:
        """Number, id and hash of the documents left out since the last call, by number."""
        with self._lock:
            documents, self._left_out = self._left_out, []
        return sorted(documents)

    def _changed(self, window: list[Item]) -> list[Item]:
        documents = [d for item in window if isinstance(d := document_of(item), Document)]
        with self._lock:  # read first: an acknowledgement after the look may be missed by it
            busy = set(self._under_way)
        there = self._index.hashes([d.id for d in documents]) if documents else {}
        kept = []
        for item in window:
            document = document_of(item)
            if isinstance(document, Document):
                content_hash = document.content_hash(self._settings)
                same = there.get(document.id) == content_hash
                if same and document.id not in busy:
                    self.count += 1
                    with self._lock:
                        self._left_out.append((document.number, document.id, content_hash))
                    continue
                busy.add(document.id)
                with self._lock:
                    self._under_way[document.id] += 1
            kept.append(item)
        return kept


class SeenIds:
    """The ids of a corpus, in eight bytes each.

    Two ids may share their eight bytes. Then a missing one counts as seen, and stays: with a
    billion ids that happens to one document in ten billion.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items; their ids are recorded as they pass."""
        for item in items:
            document = document_of(item)
            if isinstance(document, Document):
                self._hashes.append(id_hash(document.id))
            yield item

    def missing(self, ids: Iterable[str]) -> Iterator[str]:
        """The ids that were never seen."""
        seen = np.unique(np.frombuffer(self._hashes, np.uint64))
        for id in ids:
            hash = np.uint64(id_hash(id))
            place = int(np.searchsorted(seen, hash))
            if place == len(seen) or seen[place] != hash:
                yield id


class _Deletions(NamedTuple):
    """Documents that are deleted together, see `BulkRequest`."""

    ids: list[str]
    size: int = 0

    def actions(self) -> list[Action]:
        """See `BulkRequest.actions`."""
        return [Action(id, None) for id in self.ids]


def find_missing(index: EngineIndex, seen: SeenIds) -> list[str]:
    """The ids of an index that a corpus does not contain."""
    index.refresh()
    return [*seen.missing(index.ids())]  # all are read before the first is deleted


def delete_documents(index: EngineIndex, ids: Sequence[str]) -> int:
    """Delete documents. Returns how many there were."""
    deleted = 0

    def finished(request: _Deletions, results: list[ItemResult]) -> None:
        nonlocal deleted
        deleted += sum(result.status == 200 for result in results)
        for id, result in zip(request.ids, results, strict=True):
            if result.status >= 400 and result.status != 404:
                raise EngineError(
                    f"The document {id!r} of {index.name!r} cannot be deleted "
                    f"({result.status}: {result.reason})"
                )

    sender = BulkSender(index, finished, Pace())
    try:
        missing = iter(ids)
        while batch := [*islice(missing, _WINDOW)]:
            sender.put(_Deletions(batch))
        sender.finish()
    finally:
        sender.stop()
    index.refresh()
    return deleted
