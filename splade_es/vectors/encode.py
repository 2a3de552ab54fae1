"""Documents into vectors as an index stores them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator

from splade_es.data.rejects import Rejects
from splade_es.encoders.base import TextEncoder
from splade_es.errors import ModelError
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded, Rejected, SparseRow

# Rows that are quantised at once, and how long the first of them waits at most.
_BATCH, _SECONDS = 64, 0.1


def encode_documents(
    items: Iterable[Document | Rejected],
    encoder: TextEncoder,
    quantizer: Quantizer,
    rejects: Rejects,
) -> Iterator[Encoded]:
    """Yield each document with its vector, in the order of the corpus.

    Parameters
    ----------
    items : iterable of Document or Rejected
        What was read from a corpus.
    encoder : TextEncoder
        Encodes title and text.
    quantizer : Quantizer
        Makes integers of the weights.
    rejects : Rejects
        Gets each Rejected of `items` as soon as it is read, and documents without a finite vector.

    Raises
    ------
    CorpusError
        Something is rejected, and `rejects` stops at the first.
    ModelError
        The encoder fails.
    """
    waiting: deque[Document] = deque()

    def bodies() -> Iterator[str]:
        for item in items:
            if isinstance(item, Rejected):
                rejects.add(item)
            else:
                waiting.append(item)
                yield item.body

    for rows in _batches(encoder.encode(bodies())):
        for vector in quantizer.quantize_all(rows):
            document = waiting.popleft()
            if isinstance(vector, ModelError):  # one text in a million, in half precision
                rejects.add(Rejected(document.place, str(vector), document.to_json()))
            else:
                yield Encoded(document, vector)


def _batches(rows: Iterator[SparseRow]) -> Iterator[list[SparseRow]]:
    """Rows in batches: full ones of a fast encoder, and without delay those of a slow one."""
    batch: list[SparseRow] = []
    since = time.monotonic()
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == _BATCH or time.monotonic() - since > _SECONDS:
                full, batch = batch, []
                yield full
                since = time.monotonic()
    except (Exception, KeyboardInterrupt):
        yield batch  # what was encoded until then is not lost
        raise
    yield batch
