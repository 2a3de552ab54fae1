"""Encoded documents, grouped into bulk requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from splade_es.engines.base import EngineIndex
from splade_es.indexing.bulk_actions import ActionBuilder
from splade_es.indexing.bulk_sender import BulkRequest, BulkSender, Pace
from splade_es.indexing.tally import Tally
from splade_es.progress import LoadProgress
from splade_es.records import Action, Document, Encoded

# Documents of a request: what is encoded again after a kill -9 should not be many.
_REQUEST_DOCUMENTS = 1024
# Where the encoder is slow, a request is sent as soon as it has so many and no other is in flight.
_FEW_DOCUMENTS = 64


def send_documents(
    encoded: Iterable[Encoded], builder: ActionBuilder, index: EngineIndex, tally: Tally, pace: Pace
) -> Iterator[LoadProgress]:
    """Send every document, and yield the counts after each request.

    Encoding and sending overlap: this thread takes what is encoded, others send, and a short queue
    between them bounds the memory. Raises EngineError if the engine fails for good: what was
    acknowledged stays.
    """
    sender = BulkSender(index, tally.finished, pace)
    try:
        for request in _group(_with_actions(encoded, builder), sender):
            sender.put(request)
            yield tally.progress()
        sender.finish()
    finally:
        sender.stop()


def _with_actions(
    encoded: Iterable[Encoded], builder: ActionBuilder
) -> Iterator[tuple[Document, Action, int, int]]:
    for document, vector in encoded:
        action = builder.build(document, vector)
        # feature and weight stand there twice, and the fields as they are
        size = len(document.body) + 24 * len(vector.ids) + len(str(document.fields))
        yield document, action, size, vector.saturated


def _group(
    actions: Iterable[tuple[Document, Action, int, int]], sender: BulkSender
) -> Iterator[BulkRequest]:
    """No id comes twice in a request: an item that is sent again could overtake the other.

    A huge document goes alone, because servers short of memory refuse a request as a whole.
    """
    request = BulkRequest([], [], 0, 0)
    ids: set[str] = set()
    for document, action, size, saturated in actions:
        full = len(ids) == _REQUEST_DOCUMENTS or request.size + size > sender.size
        soon = len(ids) >= _FEW_DOCUMENTS and sender.idle
        if ids and (full or soon or action.id in ids):
            yield request
            request, ids = BulkRequest([], [], 0, 0), set()
        ids.add(action.id)
        request.documents.append(document)
        request.actions.append(action)
        request = request._replace(
            size=request.size + size, saturated=request.saturated + saturated
        )
    if ids:
        yield request
