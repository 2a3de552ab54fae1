"""Encoded documents, grouped into bulk requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from splade_es.engines.base import EngineIndex
from splade_es.indexing.bulk_actions import ActionBuilder, LoadRequest
from splade_es.indexing.bulk_sender import BulkSender, Pace
from splade_es.indexing.tally import Tally
from splade_es.progress import LoadProgress
from splade_es.records import Encoded

# Documents of a request: what is encoded again after a kill -9 should not be many.
_REQUEST_DOCUMENTS = 1024
# Where the encoder is slow, a request is sent as soon as it has so many and no other is in flight.
_FEW_DOCUMENTS = 64


def send_documents(
    encoded: Iterable[Encoded], builder: ActionBuilder, index: EngineIndex, tally: Tally, pace: Pace
) -> Iterator[LoadProgress]:
    """Send every document, and yield the counts after each request.

    Encoding and sending overlap: this thread takes what is encoded, others make the bodies and send
    them, and a short queue between them bounds the memory. Raises EngineError if the engine fails
    for good: what was acknowledged stays.
    """
    sender = BulkSender(index, tally.finished, pace)
    try:
        for request in _group(encoded, builder, sender):
            sender.put(request)
            yield tally.progress()
        sender.finish()
    finally:
        sender.stop()


def _group(
    encoded: Iterable[Encoded], builder: ActionBuilder, sender: BulkSender[LoadRequest]
) -> Iterator[LoadRequest]:
    """No id comes twice in a request: an item that is sent again could overtake the other.

    A huge document goes alone, because servers short of memory refuse a request as a whole.
    """
    items: list[Encoded] = []
    ids: set[str] = set()
    size = 0
    for item in encoded:
        document, vector = item
        # feature and weight stand there twice, and the fields as they are
        of_item = len(document.title) + len(document.text) + 24 * len(vector.ids)
        if document.fields:
            of_item += len(str(document.fields))
        full = len(ids) == _REQUEST_DOCUMENTS or size + of_item > sender.size
        soon = len(ids) >= _FEW_DOCUMENTS and sender.idle
        if ids and (full or soon or document.id in ids):
            yield LoadRequest(items, size, builder)
            items, ids, size = [], set(), 0
        ids.add(document.id)
        items.append(item)
        size += of_item
    if items:
        yield LoadRequest(items, size, builder)
