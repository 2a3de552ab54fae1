"""Query text in, hits out; many queries in, a run out."""

from __future__ import annotations

from collections.abc import Sequence

from splade_es.engines.base import Engine
from splade_es.errors import IndexMismatch, ModelError, QueryError
from splade_es.features import feature_names
from splade_es.indexing import check_same, index_meta
from splade_es.quantize import Quantizer
from splade_es.queries import check_text, load_text_encoder
from splade_es.records import Clause, Hit, Query, Run, SparseRow
from splade_es.rewrite import rewrite


class Searcher:
    """Searches one index with the model that made it.

    model: a directory or hub name; None for the one the index remembers. top_k and threshold prune
    the query's terms; few: see `load_text_encoder`. Raises IndexMissing, IndexMismatch and
    ModelError.
    """

    def __init__(
        self,
        engine: Engine,
        index: str,
        model: str | None = None,
        *,
        top_k: int | None = None,
        threshold: float = 0.0,
        few: bool = False,
    ) -> None:
        self.engine = engine
        self.index = index
        self.meta = engine.meta(index)
        self.top_k = top_k
        self.threshold = threshold
        try:
            self.encoder = load_text_encoder(
                model or self.meta.model, self.meta.max_length, few=few
            )
        except ModelError as error:
            if model:
                raise
            raise IndexMismatch(
                f"The index {index!r} was made by a model that cannot be loaded: {error.message}",
                "Say with --model where it is now.",
            ) from error
        ours = index_meta(self.encoder, Quantizer(self.meta.scale))
        check_same(self.meta, ours, index)
        self._names = feature_names(self.encoder.vocabulary)

    def search(self, text: str, k: int = 10, contributions: bool = False) -> list[Hit]:
        """The k best documents; with what each feature adds, if `contributions`. Raises QueryError
        for a text without any term or not UTF-8."""
        return self.engine.search(self.index, self.query(text), k, contributions)

    def query(self, text: str) -> list[Clause]:
        """The weighted terms of a text. Raises as `encode`."""
        return self.clauses(self.encode(text))

    def encode(self, text: str, *, with_sources: bool = False) -> SparseRow:
        """The row of a query. Raises QueryError if the text has no term or is not UTF-8.

        with_sources: see `SparseRow`.
        """
        if not text.strip():
            raise QueryError("The query is empty", "Type some words.")
        check_text(text)
        (row,) = self.encoder.encode([text], with_sources=with_sources)
        if not self.clauses(row):
            raise QueryError(
                f"The model finds no term in the query {text[:60]!r}", "Use other words."
            )
        return row

    def run(self, queries: Sequence[Query], k: int = 1000) -> Run:
        """The k best documents of each query, as a run. A query without terms finds nothing."""
        rows = self.encoder.encode(query.text for query in queries)
        found = self.engine.search_many(self.index, [self.clauses(row) for row in rows], k)
        return {
            query.id: {hit.id: hit.score for hit in hits}
            for query, hits in zip(queries, found, strict=True)
        }

    def clauses(self, row: SparseRow) -> list[Clause]:
        """The weighted terms that are sent for a query's row."""
        return rewrite(row, self._names, self.meta.scale, self.top_k, self.threshold)


def snippet(text: str, length: int = 160) -> str:
    """The beginning of a text in one line of at most `length` characters."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else line[: length - 1].rsplit(" ", 1)[0] + "…"
