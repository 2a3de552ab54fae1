"""Documents into stored vectors."""

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
    """Each document with its vector, in the order of the corpus; what the reader rejected goes to
    `rejects` as soon as it is read."""
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
        except ModelError as error:  # of one text in a million, with a model in half precision
            rejects.add(Rejected(document.place, str(error), document.to_json()))
        else:
            yield Encoded(document, vector)
