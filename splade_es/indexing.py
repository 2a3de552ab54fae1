"""Documents with their vectors into an index.

Encoding and sending overlap: this thread takes what is encoded, others send, and a short queue
between them bounds the memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace

from splade_es import __version__
from splade_es.actions import ToAction
from splade_es.aliases import Sample
from splade_es.changes import Unchanged
from splade_es.engines.base import FIELD, Engine, FieldType, check_field_type
from splade_es.errors import EngineError, IndexMismatch
from splade_es.features import CODEC, feature_names, vocabulary_sha256
from splade_es.journal import Done, Journal, digest, runs, total
from splade_es.layout import fingerprint, read_layout
from splade_es.quantize import Quantizer
from splade_es.queries import TextEncoder
from splade_es.records import Action, Document, Encoded, IndexMeta, ItemResult, Rejected, Source
from splade_es.rejects import Rejects
from splade_es.sending import Request, Sender

# Documents of a request: what is encoded again after a kill -9 should not be many.
_REQUEST_DOCUMENTS = 1024
# Where the encoder is slow, a request is sent as soon as it has so many and no other is under way.
_FEW_DOCUMENTS = 64


@dataclass(slots=True)
class Summary:
    """Counts of one load. read = indexed + unchanged + rejected, once it has ended.

    replaced: indexed documents whose id was there before, in this corpus or in the index; empty:
    indexed documents without any feature, which no query finds; saturated: weights that were too
    large for an integer and were clipped; unchanged: documents that were in the index as they are;
    deleted: those that the corpus no longer has; resumed: indexed or rejected by an earlier run,
    which the other counts include; seconds: of this run.
    """

    read: int = 0
    indexed: int = 0
    unchanged: int = 0
    deleted: int = 0
    resumed: int = 0
    replaced: int = 0
    empty: int = 0
    rejected: int = 0
    saturated: int = 0
    seconds: float = 0.0
    first_rejected: Rejected | None = field(default=None)


def index_meta(encoder: TextEncoder, quantizer: Quantizer) -> IndexMeta:
    """What an index of this model must remember. Raises ModelError for an unfit vocabulary.

    encoder: of either side of the model. The query side is not part of it: queries may be encoded
    in a better way later, and the documents stay.
    """
    feature_names(encoder.vocabulary)
    documents = read_layout(encoder.name).document
    return IndexMeta(
        toolkit=__version__,
        model=encoder.name,
        fingerprint=fingerprint(documents.path),
        vocabulary=vocabulary_sha256(encoder.vocabulary),
        codec=CODEC,
        scale=quantizer.scale,
        max_length=encoder.max_length,
        pooling=documents.rule,
    )


def open_index(
    engine: Engine,
    index: str,
    meta: IndexMeta,
    *,
    recreate: bool = False,
    field_type: FieldType | None = None,
    source: Source = "full",
) -> bool:
    """Make the index, or check that what is there was made the same way; whether it was made.

    Raises IndexMismatch if another model, scale or length made it, and EngineError for a field type
    that the engine has not, before anything is deleted.
    """
    check_field_type(engine, field_type)
    if engine.exists(index):
        if not recreate:
            check_same(engine.meta(index), meta, index)
            return False
        engine.delete(index)
    engine.create(index, meta, field_type, source)
    return True


def check_same(stored: IndexMeta, ours: IndexMeta, index: str) -> None:
    """Raises IndexMismatch unless vectors made by `ours` fit an index made by `stored`."""
    # the toolkit's version, and where the model lies on this machine, may differ
    wanted = asdict(replace(ours, toolkit=stored.toolkit, model=stored.model))
    for name, value in asdict(stored).items():
        if value != wanted[name]:
            what = "another model" if name in ("fingerprint", "vocabulary") else f"{name} {value}"
            raise IndexMismatch(
                f"The index {index!r} was made with {what} ({stored.model})",
                "Give that model and its settings, or index anew with --recreate.",
            )


def index_corpus(
    encoded: Iterable[Encoded],
    vocabulary: list[str],
    engine: Engine,
    index: str,
    rejects: Rejects,
    *,
    settings: str = "",
    journal: Journal | None = None,
    unchanged: Unchanged | None = None,
    sample: Sample | None = None,
) -> Iterator[Summary]:
    """Index every document; yields the same Summary, brought up to date, after each request.

    vocabulary: the token of each id of the vectors. What the engine refuses goes to `rejects`,
    where the reader's are, and the rest is indexed. settings: see `Document.content_hash`.
    journal: takes down what is done; unchanged: is told. `encoded` holds what these two left over.
    sample: takes some of the documents, for `check_sample`. Raises EngineError if the engine fails
    for good: what was acknowledged stays.
    """
    started = time.perf_counter()
    engine.refresh(index)
    load = _Load(engine, index, rejects, journal, unchanged, sample)
    sender = Sender(engine, index, load.finished)
    actions = ToAction(vocabulary, settings, engine.meta(index).model)
    try:
        for request in _requests(_with_actions(encoded, actions), sender):
            sender.put(request)
            yield load.tell(started)
        sender.finish()
    finally:
        sender.stop()
    engine.refresh(index)
    if not unchanged:  # else others may delete from it
        load.check_count()
    yield load.tell(started)


class _Load:
    """The counts of a load, kept in step with its journal and the file of rejects."""

    def __init__(
        self,
        engine: Engine,
        index: str,
        rejects: Rejects,
        journal: Journal | None,
        unchanged: Unchanged | None,
        sample: Sample | None,
    ) -> None:
        self._engine = engine
        self._index = index
        self._rejects = rejects
        self._journal = journal
        self._unchanged = unchanged
        self._sample = sample
        self._before = engine.count(index)
        self._summary = Summary()
        self._refused = 0
        self._left_out = 0  # by earlier runs
        if journal:
            self._before = journal.header["documents"]
            for done in journal.done:
                self._add(done)
            self._summary.resumed = self._summary.indexed + self._refused
            self._left_out = sum(total(done.unchanged) for done in journal.done)

    def finished(self, request: Request, results: list[ItemResult]) -> None:
        """Count a request whose documents are all indexed or refused."""
        refused = {}
        indexed = replaced = empty = 0
        for document, action, result in zip(
            request.documents, request.actions, results, strict=True
        ):
            if result.status >= 400:
                reason = self._rejects.add_refused(document, self._engine.name, result)
                refused[document.number] = reason
            else:
                indexed += 1
                replaced += result.status == 200
                features = (action.source or {})[FIELD]
                empty += not features
                if self._sample is not None:
                    self._sample.add(document.id, features)
        done = Done(
            runs(document.number for document in request.documents),
            runs(sorted(self._unchanged.left_out())) if self._unchanged else [],
            digest(
                (action.id, (action.source or {})["splade_hash"]) for action in request.actions
            ),
            indexed, replaced, empty, request.saturated, refused,
        )  # fmt: skip
        if self._journal:
            self._journal.record(done)
        if self._unchanged:
            self._unchanged.acknowledged(document.id for document in request.documents)
        self._add(done)

    def tell(self, started: float) -> Summary:
        """The summary as of now."""
        self._summary.rejected = self._rejects.count
        self._summary.first_rejected = self._rejects.first
        self._summary.unchanged = self._left_out + (self._unchanged.count if self._unchanged else 0)
        self._summary.read = self._summary.indexed + self._summary.unchanged + self._rejects.count
        self._summary.seconds = time.perf_counter() - started
        return self._summary

    def check_count(self) -> None:
        """Raises EngineError if fewer documents are there than were acknowledged."""
        expected = self._before + self._summary.indexed - self._summary.replaced
        if (found := self._engine.count(self._index)) < expected:
            if self._journal:  # it says what is not so
                self._journal.finish()
            raise EngineError(
                f"The index {self._index!r} has {found:,} documents where {expected:,} were "
                "acknowledged",
                "Look for a process that deletes documents from it, and index again.",
            )

    def _add(self, done: Done) -> None:
        self._summary.indexed += done.indexed
        self._summary.replaced += done.replaced
        self._summary.empty += done.empty
        self._summary.saturated += done.saturated
        self._refused += len(done.refused)


def _with_actions(
    encoded: Iterable[Encoded], to_action: ToAction
) -> Iterator[tuple[Document, Action, int, int]]:
    for document, vector in encoded:
        action = to_action(document, vector)
        # feature and weight stand there twice, and the fields as they are
        size = len(document.body) + 24 * len(vector.ids) + len(str(document.fields))
        yield document, action, size, vector.saturated


def _requests(
    actions: Iterable[tuple[Document, Action, int, int]], sender: Sender
) -> Iterator[Request]:
    """No id comes twice in a request: an item sent again could overtake the other. And a huge
    document goes alone, because servers short of memory refuse a request as a whole."""
    request = Request([], [], 0, 0)
    ids: set[str] = set()
    for document, action, size, saturated in actions:
        full = len(ids) == _REQUEST_DOCUMENTS or request.size + size > sender.size
        soon = len(ids) >= _FEW_DOCUMENTS and sender.idle
        if ids and (full or soon or action.id in ids):
            yield request
            request, ids = Request([], [], 0, 0), set()
        ids.add(action.id)
        request.documents.append(document)
        request.actions.append(action)
        request = request._replace(
            size=request.size + size, saturated=request.saturated + saturated
        )
    if ids:
        yield request
