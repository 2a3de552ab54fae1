"""What changes from one model, or one index, to another: tokens, their number, results."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from splade_es.encoders.base import TextEncoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import CorpusError
from splade_es.features import feature_names
from splade_es.quantize import Quantizer
from splade_es.records import Document, Query, Rejected, Run
from splade_es.search.searcher import Searcher

# Documents that are encoded by either model at once.
_WINDOW = 256
# A cosine of 1 but for rounding.
_SAME = 1 - 1e-6
#: How many of the documents or queries that change most are named.
NAMED = 10


class TokenChange(NamedTuple):
    """In how many documents a token occurs, before and after."""

    token: str
    before: int
    after: int


class WeightChange(NamedTuple):
    """Weight of a token before and after; 0 where it is missing."""

    token: str
    before: float
    after: float


class Moved(NamedTuple):
    """A document or a query. alike: 1 if nothing changed, 0 if nothing is the same."""

    id: str
    alike: float


@dataclass(frozen=True)
class Change:
    """What differs between two models, or two indices.

    Attributes
    ----------
    documents : (int, int)
        Number of documents before and after.
    active : (float, float)
        Mean terms of a document before and after.
    tokens : list of TokenChange
        Tokens whose number of documents changes, the largest change first.
    moved : list of Moved
        Documents, with the cosine of their two vectors, or queries, with the share of results that
        stay; those that change most first.
    alike : float or None
        The mean over all documents or queries; None if there were none to compare.
    """

    documents: tuple[int, int]
    active: tuple[float, float]
    tokens: list[TokenChange]
    moved: list[Moved]
    alike: float | None


def diff_texts(before: TextEncoder, after: TextEncoder, text: str) -> list[WeightChange]:
    """All tokens that either model finds in a text, the strongest first.

    Parameters
    ----------
    before, after : TextEncoder
        The same side of two models.
    text : str
        Any text.
    """
    (row_before,), (row_after,) = before.encode([text]), after.encode([text])
    old = _by_token(before, row_before.ids, row_before.weights)
    new = _by_token(after, row_after.ids, row_after.weights)
    changes = [WeightChange(token, old.get(token, 0.0), new.get(token, 0.0)) for token in old | new]
    return sorted(changes, key=lambda change: (-max(change.before, change.after), change.token))


def diff_corpus(
    before: Encoder, after: Encoder, documents: Iterable[Document | Rejected]
) -> Change:
    """What two models make of the same documents.

    Parameters
    ----------
    before, after : Encoder
        Two models.
    documents : iterable of Document or Rejected
        As `read_documents` gives them.

    Raises
    ------
    CorpusError
        A line is not a document.
    """
    quantizer = Quantizer()  # weights that round to 0 are in no index
    seen_before: Counter[str] = Counter()
    seen_after: Counter[str] = Counter()
    least: list[tuple[float, str]] = []  # a heap of those that change most, negated
    total, count = 0.0, 0
    window: list[Document] = []

    def compare() -> None:
        nonlocal total, count
        texts = [document.body for document in window]
        for document, *rows in zip(window, before.encode(texts), after.encode(texts), strict=True):
            old, new = (
                _by_token(encoder, *quantizer.quantize(row)[:2])
                for encoder, row in zip((before, after), rows, strict=True)
            )
            seen_before.update(old.keys())
            seen_after.update(new.keys())
            alike = _cosine(old, new)
            total, count = total + alike, count + 1
            if alike < _SAME:
                heapq.heappush(least, (-alike, document.id))
                if len(least) > NAMED:
                    heapq.heappop(least)
        window.clear()

    for item in documents:
        if isinstance(item, Rejected):
            raise CorpusError(f"{item.place}: {item.reason}", "Correct or remove the line.")
        window.append(item)
        if len(window) == _WINDOW:
            compare()
    compare()
    return Change(
        (count, count),
        (seen_before.total() / max(1, count), seen_after.total() / max(1, count)),
        _changes(seen_before, seen_after),
        [Moved(id, -alike) for alike, id in sorted(least, key=lambda pair: (-pair[0], pair[1]))],
        total / count if count else None,
    )


def diff_indices(before: Searcher, after: Searcher, queries: Sequence[Query], k: int) -> Change:
    """What two indices hold, and how alike their first k results for each query are.

    Parameters
    ----------
    before, after : Searcher
        Of two indices.
    queries : sequence of Query
        May be empty.
    k : int
        Results that are compared.
    """
    old, new = (searcher.index.count() for searcher in (before, after))
    seen_before, seen_after = _frequencies(before), _frequencies(after)
    moved = _moved(before.run(queries, k), after.run(queries, k)) if queries else []
    return Change(
        (old, new),
        (seen_before.total() / max(1, old), seen_after.total() / max(1, new)),
        _changes(seen_before, seen_after),
        [query for query in moved if query.alike < 1][:NAMED],
        sum(query.alike for query in moved) / len(moved) if moved else None,
    )


def _by_token(encoder: TextEncoder, ids: NDArray[Any], weights: NDArray[Any]) -> dict[str, float]:
    """ids, weights: [n]."""
    pairs = zip(ids.tolist(), weights.tolist(), strict=True)
    return {encoder.vocabulary[id]: weight for id, weight in pairs}


def _cosine(a: dict[str, float], b: dict[str, float]) -> float:
    if not a or not b:
        return float(a == b)
    dot = sum(weight * b.get(token, 0.0) for token, weight in a.items())
    return dot / math.sqrt(sum(w * w for w in a.values()) * sum(w * w for w in b.values()))


def _changes(before: Counter[str], after: Counter[str]) -> list[TokenChange]:
    changed = [
        TokenChange(token, before[token], after[token])
        for token in before.keys() | after.keys()
        if before[token] != after[token]
    ]
    return sorted(changed, key=lambda c: (-abs(c.after - c.before), c.token))


def _frequencies(searcher: Searcher) -> Counter[str]:
    vocabulary = searcher.encoder.vocabulary
    counts = searcher.index.document_frequencies(feature_names(vocabulary))
    return Counter({token: n for token, n in zip(vocabulary, counts, strict=True) if n})


def _moved(before: Run, after: Run) -> list[Moved]:
    """Queries, those that change most first, with the share of results that both have."""
    moved = []
    for id, found in before.items():
        most = max(len(found), len(after[id]))
        moved.append(Moved(id, len(found.keys() & after[id].keys()) / most if most else 1.0))
    return sorted(moved, key=lambda query: (query.alike, query.id))
