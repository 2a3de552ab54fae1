"""Documents with their vectors into an index.

Encoding and sending overlap: this thread takes what is encoded, one other thread sends, and a short
queue between them bounds the memory. One sender keeps the order of the corpus, so the last of two
documents with the same id wins, as it would line by line.
"""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace

from splade_es import __version__
from splade_es.engines.base import FIELD, TRY_LATER, Engine, FieldType, check_field_type
from splade_es.errors import EngineError, IndexMismatch, RequestTooLarge, Unavailable
from splade_es.features import CODEC, feature_names, vocabulary_sha256
from splade_es.layout import fingerprint, read_layout
from splade_es.quantize import Quantizer
from splade_es.queries import TextEncoder
from splade_es.records import (
    Action,
    Document,
    Encoded,
    IndexMeta,
    ItemResult,
    Quantized,
    Rejected,
)
from splade_es.rejects import Rejects

# One bulk request: a few MB is what both servers take best, and what a resend can afford.
_REQUEST_DOCUMENTS = 256
_REQUEST_CHARACTERS = 4_000_000
_QUEUED_REQUESTS = 4
# Attempts at one request or item, waiting 0.5 s, 1 s, 2 s, ... 30 s between them: two minutes.
_ATTEMPTS = 9
_TOP = 20


@dataclass(slots=True)
class Summary:
    """Counts of one load. read = indexed + rejected, once it has ended.

    replaced: indexed documents whose id was there before, in this corpus or in the index; empty:
    indexed documents without any feature, which no query finds; saturated: weights that were too
    large for an integer and were clipped; seconds: of the whole load.
    """

    read: int = 0
    indexed: int = 0
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
) -> None:
    """Make the index, or check that what is there was made the same way.

    Raises IndexMismatch if another model, scale or length made it, and EngineError for a field type
    that the engine has not, before anything is deleted.
    """
    check_field_type(engine, field_type)
    if engine.exists(index):
        if not recreate:
            check_same(engine.meta(index), meta, index)
            return
        engine.delete(index)
    engine.create(index, meta, field_type)


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
) -> Iterator[Summary]:
    """Index every document; yields the same Summary, brought up to date, after each request.

    vocabulary: the token of each id of the vectors. What the engine refuses goes to `rejects`,
    where the reader's are, and the rest is indexed. Raises EngineError if the engine fails for
    good: what was acknowledged stays.
    """
    started = time.perf_counter()
    summary = Summary()
    engine.refresh(index)
    before = engine.count(index)
    sender = _Sender(engine, index, rejects, summary)
    try:
        for request in _requests(_actions(encoded, vocabulary, sender)):
            sender.put(request)
            sender.tell(time.perf_counter() - started)
            yield summary
        sender.finish()
    finally:
        sender.stop()
    engine.refresh(index)
    expected = before + summary.indexed - summary.replaced
    if (found := engine.count(index)) < expected:
        raise EngineError(
            f"The index {index!r} has {found:,} documents where {expected:,} were acknowledged",
            "Look for a process that deletes documents from it, and index again.",
        )
    sender.tell(time.perf_counter() - started)
    yield summary


def to_action(
    document: Document, row: Quantized, vocabulary: list[str], names: list[str]
) -> Action:
    """The bulk action of one document: its source fields, its features and their companions.

    vocabulary: token of each id; names: feature name of each id. The companions are there because
    neither Kibana nor OpenSearch Dashboards can show or aggregate a sparse vector.
    """
    weights = list(zip(row.ids.tolist(), row.values.tolist(), strict=True))  # by ascending id
    strongest = [
        (vocabulary[id], value) for id, value in sorted(weights, key=lambda weight: -weight[1])
    ]
    body = document.body.lower()
    return Action(
        document.id,
        {
            **document.fields,
            "title": document.title,
            "text": document.text,
            FIELD: {names[id]: value for id, value in weights},
            "splade_top": [token for token, _ in strongest[:_TOP]],
            "splade_new": [token for token, _ in strongest if _surface(token) not in body][:_TOP],
            "splade_view": " ".join(f"{token}:{value}" for token, value in strongest),
            "splade_n": len(strongest),
            "splade_max": strongest[0][1] if strongest else 0,
        },
    )


def _surface(token: str) -> str:
    """The letters of a token, without the marks that WordPiece, BPE and SentencePiece add."""
    return token.removeprefix("##").lstrip("Ġ▁").lower()


class _Sender:
    """The thread that sends, the queue to it, and the file of rejects."""

    def __init__(self, engine: Engine, index: str, rejects: Rejects, summary: Summary) -> None:
        self._engine = engine
        self._index = index
        self._rejects = rejects
        self.summary = summary
        self.taken = 0  # documents, by the thread that encodes
        self._refused = 0  # by the engine
        self._failure: BaseException | None = None
        self._stopping = threading.Event()
        self._queue: queue.Queue[list[tuple[Document, Action]] | None] = queue.Queue(
            _QUEUED_REQUESTS
        )
        self._thread = threading.Thread(target=self._run, name="bulk sender", daemon=True)
        self._thread.start()

    def put(self, request: list[tuple[Document, Action]] | None) -> None:
        """Hand over one request; None is the last. Raises what stopped the thread."""
        while self._failure is None:
            try:
                self._queue.put(request, timeout=0.2)
                return
            except queue.Full:
                continue
        raise self._failure

    def finish(self) -> None:
        """Wait until all is acknowledged. Raises what stopped the thread."""
        self.put(None)
        while self._thread.is_alive():
            self._thread.join(timeout=0.2)  # a wait without limit would not notice Ctrl-C
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Let the request under way end and send no other; after `finish` there is none."""
        self._stopping.set()
        self._thread.join()

    def tell(self, seconds: float) -> None:
        """Bring the summary up to date with the rejects."""
        self.summary.rejected = self._rejects.count
        self.summary.first_rejected = self._rejects.first
        self.summary.read = self.taken + self._rejects.count - self._refused
        self.summary.seconds = seconds

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    request = self._queue.get(timeout=0.2)
                except queue.Empty:
                    continue
                if request is None:
                    return
                self._send(request)
        except BaseException as error:
            self._failure = error

    def _send(self, request: list[tuple[Document, Action]]) -> None:
        """Send until each item is acknowledged or rejected."""
        for attempt in range(_ATTEMPTS):
            try:
                results = self._engine.bulk(self._index, [action for _, action in request])
            except RequestTooLarge as error:
                if len(request) == 1:
                    self._reject_document(request[0][0], ItemResult(413, str(error)))
                    return
                middle = len(request) // 2
                self._send(request[:middle])
                self._send(request[middle:])
                return
            except Unavailable as error:
                # some of it may have been applied, but an id and its content stay the same
                problem = error
            else:
                again = []
                for item, result in zip(request, results, strict=True):
                    if result.status in TRY_LATER:
                        again.append(item)
                        refusal = result
                    elif result.status >= 400:
                        self._reject_document(item[0], result)
                    else:
                        self._count(item[1], result)
                if not again:
                    return
                if len(again) == 1 and attempt + 1 == _ATTEMPTS:
                    # alone, and still refused: a text too large for the server's memory
                    self._reject_document(again[0][0], refusal)
                    return
                request = again
                problem = Unavailable(
                    f"{self._engine.name} at {self._engine.where} takes no more for now "
                    f"({refusal.status}: {refusal.reason})",
                    "What it acknowledged stays. Give it time, and index the corpus again.",
                )
            if attempt + 1 == _ATTEMPTS or self._stopping.wait(
                min(30.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)
            ):
                raise problem

    def _count(self, action: Action, result: ItemResult) -> None:
        self.summary.indexed += 1
        self.summary.replaced += result.status == 200
        self.summary.empty += not (action.source or {})[FIELD]

    def _reject_document(self, document: Document, result: ItemResult) -> None:
        line = {"_id": document.id, "title": document.title, "text": document.text}
        self._refused += 1
        self._rejects.add(
            Rejected(
                document.place,
                f"{self._engine.name} refused it ({result.status}): {result.reason}",
                json.dumps({**line, **document.fields}, ensure_ascii=False),
            )
        )


def _actions(
    encoded: Iterable[Encoded], vocabulary: list[str], sender: _Sender
) -> Iterator[tuple[Document, Action]]:
    names = feature_names(vocabulary)
    for document, vector in encoded:
        sender.taken += 1
        sender.summary.saturated += vector.saturated
        yield document, to_action(document, vector, vocabulary, names)


def _requests(
    actions: Iterable[tuple[Document, Action]],
) -> Iterator[list[tuple[Document, Action]]]:
    """No id comes twice in a request: an item sent again could overtake the other. And a huge
    document goes alone, because servers short of memory refuse a request as a whole."""
    request: list[tuple[Document, Action]] = []
    ids: set[str] = set()
    characters = 0
    for document, action in actions:
        size = len(document.body) + len(str(document.fields))
        full = len(ids) == _REQUEST_DOCUMENTS or characters + size > _REQUEST_CHARACTERS
        if request and (full or action.id in ids):
            yield request
            request, ids, characters = [], set(), 0
        request.append((document, action))
        ids.add(action.id)
        characters += size
    if request:
        yield request
