"""Documents into vectors as an index stores them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from splade_es.data.rejects import Rejects
from splade_es.encoders.base import TextEncoder
from splade_es.errors import ModelError
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded, Rejected


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

    for row in encoder.encode(bodies()):
        document = waiting.popleft()
        try:
            vector = quantizer.quantize(row)
        except ModelError as error:  # one text in a million, with a model in half precision
            rejects.add(Rejected(document.place, str(error), document.to_json()))
        else:
            yield Encoded(document, vector)
