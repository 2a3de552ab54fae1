"""Query text in, hits out; many queries in, a run out."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence

from splade_es.arguments import check_type
from splade_es.encoders.base import check_text, make_index_meta
from splade_es.encoders.load import load_query_encoder
from splade_es.engines.base import EngineIndex
from splade_es.errors import IndexMismatch, ModelError, QueryError
from splade_es.features import feature_names
from splade_es.index_meta import check_same
from splade_es.models.files import present_directory
from splade_es.records import Clause, Filter, Hit, Query, Run, SparseRow
from splade_es.search.modes import (
    FUSED,
    Mode,
    bm25_hits,
    bm25_run,
    fuse_runs,
    hybrid_hits,
)
from splade_es.search.rewrite import rewrite


class Searcher:
    """Searches one index with the model that made it.

    Parameters
    ----------
    index : EngineIndex
        The index, or an alias.
    model : str, optional
        Directory or hub name; by default the one the index remembers, if it is on this machine.
    top_k : int, optional
        Keep this many terms of a query, the strongest.
    threshold : float
        Drop query terms below this weight.
    interactive : bool
        See `load_query_encoder`.

    Raises
    ------
    IndexMissing, IndexMismatch, ModelError
    """

    def __init__(
        self,
        index: EngineIndex,
        model: str | None = None,
        *,
        top_k: int | None = None,
        threshold: float = 0.0,
        interactive: bool = False,
    ) -> None:
        self.index = index
        self.meta = index.meta()
        self.top_k = top_k
        self.threshold = threshold
        # who can write the index chooses the name in it, so nothing is downloaded by that name
        name = model or present_directory(self.meta.model)
        if name is None:
            where = "Set `model` to its present place"
            if not os.path.isabs(self.meta.model):
                where += f"; or, if you trust it, to {self.meta.model}, which downloads it"
            raise IndexMismatch(
                f"The index {index.name!r} was made by the model {self.meta.model}, which is not "
                "on this machine",
                f"{where}.",
            )
        try:
            self.encoder = load_query_encoder(name, self.meta.max_length, interactive=interactive)
        except ModelError as error:
            if model:
                raise
            raise IndexMismatch(
                f"The index {index.name!r} was made by a model that cannot be loaded: "
                f"{error.message}",
                "Set `model` to its present place.",
            ) from error
        check_same(self.meta, make_index_meta(self.encoder, self.meta.scale), index.name)
        self._names = feature_names(self.encoder.vocabulary)

    def pruned(self, top_k: int | None, threshold: float) -> Searcher:
        """The same with other limits for the terms of a query; the model is shared."""
        pruned = copy.copy(self)
        pruned.top_k, pruned.threshold = top_k, threshold
        return pruned

    def check_current(self) -> None:
        """Raise IndexMismatch if the name stands for another index now, as an alias may."""
        if self.index.meta() != self.meta:
            raise IndexMismatch(
                f"{self.index.name!r} is another index since this search was opened",
                "Open it again.",
            )

    def search(
        self,
        text: str,
        k: int = 10,
        *,
        mode: Mode = "splade",
        contributions: bool = False,
        filter: Filter | None = None,
    ) -> list[Hit]:
        """The k best documents. See `splade_es.Index.search`."""
        check_type("mode", mode, Mode)
        clauses = [] if mode == "bm25" else self.query(text)
        return self.search_clauses(
            text, clauses, k, mode=mode, contributions=contributions, filter=filter
        )

    def search_clauses(
        self,
        text: str,
        clauses: Sequence[Clause],
        k: int,
        *,
        mode: Mode = "splade",
        contributions: bool = False,
        filter: Filter | None = None,
    ) -> list[Hit]:
        """`search` with other weights of the query's terms than the model gives."""
        if mode == "bm25":
            return bm25_hits(self.index, text, k, filter)
        depth = FUSED if mode == "hybrid" else k
        hits = self.index.search(clauses, depth, contributions=contributions, filter=filter)
        if mode == "hybrid":
            hits = hybrid_hits(self.index, text, hits, k, filter)
        return hits

    def query(self, text: str) -> list[Clause]:
        """The weighted terms of a text. Raises as `encode`."""
        return self.clauses(self.encode(text))

    def encode(self, text: str, *, with_sources: bool = False) -> SparseRow:
        """The row of a query. Raises QueryError if the text has no term or is not UTF-8.

        with_sources: see `SparseRow`.
        """
        if not text.strip():
            raise QueryError("The query is empty", "Give it some words.")
        check_text(text)
        (row,) = self.encoder.encode([text], with_sources=with_sources)
        if not self.clauses(row):
            raise QueryError(
                f"The model finds no term in the query {text[:60]!r}", "Use other words."
            )
        return row

    def run(
        self,
        queries: Sequence[Query],
        k: int = 1000,
        *,
        mode: Mode = "splade",
        filter: Filter | None = None,
    ) -> Run:
        """The k best documents of each query. A query without terms finds nothing."""
        check_type("mode", mode, Mode)
        if mode == "bm25":
            return bm25_run(self.index, queries, k, filter)
        rows = self.encoder.encode(query.text for query in queries)
        depth = max(k, FUSED) if mode == "hybrid" else k
        found = self.index.search_many([self.clauses(row) for row in rows], depth, filter=filter)
        run = {
            query.id: {hit.id: hit.score for hit in hits}
            for query, hits in zip(queries, found, strict=True)
        }
        if mode == "hybrid":
            run = fuse_runs([run, bm25_run(self.index, queries, depth, filter)], k)
        return run

    def clauses(self, row: SparseRow) -> list[Clause]:
        """The weighted terms that are sent for a query's row."""
        return rewrite(row, self._names, self.meta.scale, self.top_k, self.threshold)
