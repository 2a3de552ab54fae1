"""SPLADE features for an index that is there and in use.

Documents are read in the order of their last change (`_seq_no`), shard by shard, and updated only
if nobody has changed them since. All are read again until nothing is left to do, and what is done
is known by its hash: so one that somebody has changed meanwhile is found, and a run that was
interrupted goes on when it is started again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from splade_es.actions import ToAction
from splade_es.engines.answers import text_of
from splade_es.engines.base import FIELD
from splade_es.engines.indices import FIELDS
from splade_es.engines.server import ServerEngine
from splade_es.errors import EngineError
from splade_es.indexing import check_same
from splade_es.quantize import Quantizer
from splade_es.queries import TextEncoder
from splade_es.records import (
    Action,
    Document,
    Encoded,
    IndexMeta,
    ItemResult,
    Rejected,
    Stored,
)
from splade_es.rejects import Rejects
from splade_es.sending import Request, Sender
from splade_es.vectors import encode_documents

# Documents of an update request.
_REQUEST_DOCUMENTS = 256


@dataclass(slots=True)
class Filled:
    """Counts of a backfill. updated: documents that got features; unchanged: those that had them;
    without: those with no text in the fields, nor features of an earlier one; conflicts: updates
    that were not made because somebody had changed the document meanwhile, which was done again;
    seconds: of this run."""

    updated: int = 0
    unchanged: int = 0
    without: int = 0
    conflicts: int = 0
    rejected: int = 0
    seconds: float = 0.0
    first_rejected: Rejected | None = field(default=None)


def backfill(
    engine: ServerEngine,
    index: str,
    fields: list[str],
    encoder: TextEncoder,
    quantizer: Quantizer,
    meta: IndexMeta,
    rejects: Rejects,
) -> Iterator[Filled]:
    """Give each document features of the text in `fields`; yields the counts after each request.

    An index that has features must have been made with the same model: raises IndexMismatch.
    Raises EngineError, before anything is changed, if no document has text in these fields.
    A document that another writer changes is never overwritten.
    """
    started = time.perf_counter()
    run = _Run(engine, index, fields, quantizer.settings, rejects)
    if engine.has_features(index):
        check_same(engine.meta(index), meta, index)
    elif next(run.stale(), None) is None:
        raise EngineError(
            f"No document of {index!r} has text in {' or '.join(fields)}",
            "Name a field of its documents with --field; outer.inner is one in an object.",
        )
    else:
        engine.add_features(index, meta)
    engine.note(index, {FIELDS: fields})
    to_action = ToAction(encoder.vocabulary, quantizer.settings, meta.model)
    while True:
        engine.refresh(index)
        before = run.filled.updated + run.filled.conflicts
        sender = Sender(engine, index, run.finished)
        try:
            encoded = encode_documents(run.stale(), encoder, quantizer, rejects)
            for request in _requests(encoded, to_action, run):
                sender.put(request)
                yield run.tell(started)
            sender.finish()
        finally:
            sender.stop()
        yield run.tell(started)
        if run.filled.updated + run.filled.conflicts == before:
            return


class _Run:
    def __init__(
        self,
        engine: ServerEngine,
        index: str,
        fields: list[str],
        settings: str,
        rejects: Rejects,
    ) -> None:
        self.filled = Filled()
        self.stored: dict[int, Stored] = {}  # what is being encoded, by its number
        self._numbers = itertools.count()
        self._engine = engine
        self._index = index
        self._fields = fields
        self._settings = settings
        self._rejects = rejects
        self._same = 0
        self._shards = int(engine.settings(index)["number_of_shards"])

    def stale(self) -> Iterator[Document]:
        """Documents whose features are not those of their text, as far as the index goes now."""
        self._same = self.filled.without = 0
        self.stored.clear()
        for shard in range(self._shards):
            for stored in self._engine.changes(self._index, shard):
                place, number = f"{self._index}/{stored.id}", next(self._numbers)
                document = Document(
                    stored.id, text_of(stored.source, self._fields), place=place, number=number
                )
                if not document.text and FIELD not in stored.source:
                    self.filled.without += 1
                elif stored.source.get("splade_hash") == document.content_hash(self._settings):
                    self._same += 1
                else:
                    self.stored[document.number] = stored
                    yield document

    def finished(self, request: Request, results: list[ItemResult]) -> None:
        for document, result in zip(request.documents, results, strict=True):
            if result.status < 300:
                self.filled.updated += 1
            elif result.status in (404, 409):  # deleted, or it comes again as it is now
                self.filled.conflicts += 1
            else:
                self._rejects.add_refused(document, self._engine.name, result)

    def tell(self, started: float) -> Filled:
        # what was updated here is read again, and is no news
        self.filled.unchanged = max(0, self._same - self.filled.updated)
        self.filled.rejected = self._rejects.count
        self.filled.first_rejected = self._rejects.first
        self.filled.seconds = time.perf_counter() - started
        return self.filled


def _requests(encoded: Iterator[Encoded], to_action: ToAction, run: _Run) -> Iterator[Request]:
    documents: list[Document] = []
    actions: list[Action] = []
    for document, vector in encoded:
        source = to_action(document, vector).source or {}
        features = {name: value for name, value in source.items() if name.startswith("splade")}
        documents.append(document)
        stored = run.stored.pop(document.number)
        if FIELD in stored.source:  # merged, the old features would stay beside the new ones
            others = {k: v for k, v in stored.source.items() if not k.startswith("splade")}
            actions.append(Action(document.id, {**others, **features}, stored.version))
        else:
            actions.append(Action(document.id, features, stored.version, merge=True))
        if len(actions) == _REQUEST_DOCUMENTS:
            yield Request(documents, actions, 0, 0)
            documents, actions = [], []
    if actions:
        yield Request(documents, actions, 0, 0)
