"""An encoder that weighs each word by how often it occurs: exact, and ready at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from splade_es.encoders.base import TextEncoder
from splade_es.engines.base import EngineIndex
from splade_es.records import Clause, SparseRow

#: The words it knows, of one token each.
WORDS = """
    heart attack pain chest doctor treatment vitamin bone milk calcium eye vision loss blood
    pressure sugar insulin diabetes liver kidney cancer cell gene cough fever cold flu virus
    vaccine skin rash itch allergy
""".split()  # noqa: SIM905


#: A program that loads: URL, index, corpus, model and settings as JSON; says when it begins.
LOAD = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import splade_es
from words import WordEncoder

url, name, corpus, model, settings = sys.argv[1:]
with splade_es.connect(url) as engine:
    print("begins", flush=True)
    engine.index(name).load(corpus, WordEncoder(model), max_shrink=1.0, **json.loads(settings))
"""


class WordEncoder(TextEncoder):
    """Encodes with WORDS, in the name of a model directory.

    interrupt_after: how many texts it encodes before Ctrl-C; -1 for no limit.
    """

    max_length = 64
    pooling = "max"

    def __init__(self, name: str) -> None:
        self.name = name
        self.vocabulary = ["[PAD]", *WORDS]
        self.interrupt_after = -1
        self._ids = {token: id for id, token in enumerate(self.vocabulary)}

    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        for n, text in enumerate(texts):
            if n == self.interrupt_after:
                raise KeyboardInterrupt
            counts = sorted((self._ids[word], c) for word, c in Counter(text.split()).items())
            yield SparseRow(
                np.array([id for id, _ in counts], np.int32),
                np.array([count for _, count in counts], np.float32),
            )

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return []


def vector(text: str) -> dict[str, float]:
    """What an index holds of a text."""
    return {word: min(512.0, 100.0 * count) for word, count in Counter(text.split()).items()}


def contents(index: EngineIndex) -> dict[str, str] | None:
    """Id -> text of what an index holds, the vectors compared with the texts; None without one."""
    if not index.exists():
        return None
    index.refresh()
    ids = sorted(index.ids())
    documents = {document.id: document.text for document in index.documents(ids)}
    assert sorted(documents) == ids and len(ids) == index.count()
    vectors: dict[str, dict[str, float]] = {}
    queries = [[Clause(word, 1.0)] for word in WORDS]
    for word, hits in zip(WORDS, index.search_many(queries, 10_000), strict=True):
        for hit in hits:
            vectors.setdefault(hit.id, {})[word] = hit.score
    for id, text in documents.items():
        assert vectors.pop(id, {}) == vector(text), id
    assert not vectors
    return documents
