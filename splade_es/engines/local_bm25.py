"""BM25 for the local engine: in memory, by bm25s."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from splade_es.records import Document, ScoredId


class Bm25:
    """BM25 over title and text, with the parameters of the servers' mapping (`index.json`).

    k1 = 0.9, b = 0.4, English stop words, no stemming.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        import bm25s  # takes most of a second

        self._ids: list[str] = []
        bodies = []
        for document in documents:
            self._ids.append(document.id)
            bodies.append(document.body)
        tokens = bm25s.tokenize(bodies, stopwords="en", show_progress=False)
        self._has_words = any(tokens.ids)
        if self._has_words:  # bm25s divides by their number
            self._bm25 = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
            self._bm25.index(tokens, show_progress=False)

    def search(
        self, texts: Sequence[str], k: int, allowed: Container[str] | None = None
    ) -> list[list[ScoredId]]:
        """The k best documents of each text, without those that share no word with it.

        allowed: ids of the documents that may be found; None for all.
        """
        if not self._has_words or not texts:
            return [[] for _ in texts]
        import bm25s

        tokens = bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
        depth = min(k, len(self._ids)) if allowed is None else len(self._ids)
        rows, scores = self._bm25.retrieve(tokens, k=depth, show_progress=False)
        results = []
        for found in zip(rows.tolist(), scores.tolist(), strict=True):
            hits = [ScoredId(self._ids[n], score) for n, score in zip(*found, strict=True) if score]
            results.append([hit for hit in hits if allowed is None or hit.id in allowed][:k])
        return results
