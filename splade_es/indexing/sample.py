"""Some documents of a corpus, to compare what an index holds with what it should hold."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from splade_es.data.rejects import Rejects
from splade_es.engines.base import EngineIndex
from splade_es.errors import NotPublished, QueryError
from splade_es.features import feature_names
from splade_es.indexing.source import DocumentSource
from splade_es.limits import MAX_CLAUSES
from splade_es.records import Clause, Document, Encoded, document_of, id_hash

_SIZE = 32
# A vector that is encoded anew beside other texts differs by rounding, and in half precision by
# more than that; the vector of another text is far away.
_ALIKE = 0.98
_AGAIN = "It was not published, and what is live stays as it is. Load the corpus again."


class Sample:
    """Documents that are drawn evenly as a corpus passes, each in its last version.

    Documents that an earlier run has loaded pass as well: what is compared is the index, not what
    this run sent.
    """

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        self._limit = 2**64 - 1

    def watch(self, items: Iterable[Any]) -> Iterator[Any]:
        """The same items; some of them are kept as they pass."""
        for item in items:
            document = document_of(item)
            if isinstance(document, Document) and id_hash(document.id) <= self._limit:
                self._items[document.id] = _alone(item)
                if len(self._items) > _SIZE:
                    del self._items[max(self._items, key=id_hash)]
                    self._limit = max(map(id_hash, self._items))
            yield item

    def check(self, index: EngineIndex, source: DocumentSource, refused: Collection[int]) -> None:
        """Raise NotPublished unless the index scores these documents as their vectors say.

        refused: numbers of documents that are not in the index. The vectors are encoded, or read,
        once more.
        """
        names = feature_names(source.vocabulary)
        unused = Rejects(io.StringIO())
        for document, vector in source.encoded(list(self._items.values()), unused):
            if document.number in refused:
                continue
            weights = zip(vector.ids.tolist(), vector.values.tolist(), strict=True)
            expected = dict(islice(((names[id], float(v)) for id, v in weights), MAX_CLAUSES))
            try:
                found = index.explain([Clause(name, 1.0) for name in expected], document.id)
            except QueryError as error:
                raise NotPublished(
                    f"The index {index.name!r} lacks the document {document.id!r} of the corpus",
                    _AGAIN,
                ) from error
            if not _alike(expected, found):
                raise NotPublished(
                    f"The index {index.name!r} scores the document {document.id!r} with "
                    f"{sum(found.values()):g}, where its weights sum to "
                    f"{sum(expected.values()):g}",
                    _AGAIN,
                )


def _alone(item: Any) -> Any:
    """The item, its vector copied if it has one: that is a part of arrays of many documents."""
    if not isinstance(item, Encoded):
        return item
    vector = item.vector
    return Encoded(
        item.document, vector._replace(ids=vector.ids.copy(), values=vector.values.copy())
    )


def _alike(expected: dict[str, float], found: dict[str, float]) -> bool:
    """Whether two vectors are the same but for rounding."""
    if not expected or not found:
        return expected == found
    dot = sum(value * found.get(name, 0.0) for name, value in expected.items())
    squares = [sum(v * v for v in vector.values()) for vector in (expected, found)]
    lengths = [math.sqrt(square) for square in squares]
    return dot >= _ALIKE * lengths[0] * lengths[1] and min(lengths) >= _ALIKE * max(lengths)
