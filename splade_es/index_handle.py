"""The public handle of an index."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Literal

from splade_es.arguments import check_settings, check_type, checked
from splade_es.encoders.load import load_document_encoder
from splade_es.index_loading import IndexLoading, Path
from splade_es.index_meta import IndexMeta
from splade_es.inspection.explain import Explanation, explain
from splade_es.progress import MineProgress, follow
from splade_es.records import Document, Filter, Hit, IndexStats, Query, Run
from splade_es.search.evaluation import Evaluation, evaluate_collection
from splade_es.search.modes import Mode, bm25_hits, bm25_run
from splade_es.search.searcher import Searcher
from splade_es.training.mining import MineSettings, mine_steps

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Index(IndexLoading):
    """One index of an engine, by its name. Made by `Engine.index`.

    Every method raises `EngineError` or an error below it if the engine fails, and IndexMissing if
    the index does not exist, unless it says otherwise.

    Attributes
    ----------
    name : str
        Of the index, or of an alias.
    """

    # State

    def exists(self) -> bool:
        """Whether the index exists."""
        return self._index.exists()

    def count(self) -> int:
        """Documents that searches can find."""
        return self._index.count()

    def meta(self) -> IndexMeta:
        """How its vectors were made: model, scale, length and so on.

        Raises IndexMismatch for an index that splade-es did not make.
        """
        return self._index.meta()

    def stats(self) -> IndexStats:
        """Documents, bytes on disk, field type."""
        return self._index.stats()

    @checked
    def documents(self, ids: Sequence[str]) -> list[Document]:
        """Documents as they were loaded, in the order of their ids; unknown ids are left out."""
        return self._index.documents(ids)

    def delete(self) -> None:
        """Delete the index with all its documents.

        Raises IndexMismatch for an index that splade-es did not make.
        """
        self._index.delete()

    # Queries

    @checked
    def search(
        self,
        query: str,
        k: int = 10,
        *,
        mode: Mode = "splade",
        filter: Filter | None = None,
        contributions: bool = False,
        model: Path | None = None,
        query_top_k: int | None = None,
        query_threshold: float = 0.0,
    ) -> list[Hit]:
        """Search with the model that made the index.

        Parameters
        ----------
        query : str
            Any text.
        k : int
            Results, at most 10,000.
        mode : {"splade", "bm25", "hybrid"}
            By the terms that the model gives the query; by its words; or both lists, fused by
            reciprocal ranks (doi:10.1145/1571941.1572114).
        filter : mapping, optional
            Field -> value, or list of values, one of which a document must have in that field:
            `{"site": "cdc", "year": [2020, 2021]}`.
        contributions : bool
            Also return what each feature of the query adds to each score.
        model : str or path, optional
            Where the model is now, if it has moved. The model that the index names is loaded from
            this machine, and only one that is named here is downloaded.
        query_top_k : int, optional
            Keep this many terms of the query.
        query_threshold : float
            Drop query terms below this weight.

        Raises
        ------
        QueryError
            The query has no term; k or filter is invalid.
        SettingsError
            There is no such mode.
        IndexMismatch
            The index was made by another model, or its model cannot be loaded.
        """
        if mode == "bm25":
            return bm25_hits(self._index, query, k, filter)
        searcher = self.searcher(
            model=model, query_top_k=query_top_k, query_threshold=query_threshold
        )
        return searcher.search(query, k, mode=mode, contributions=contributions, filter=filter)

    @checked
    def searcher(
        self,
        *,
        model: Path | None = None,
        query_top_k: int | None = None,
        query_threshold: float = 0.0,
        interactive: bool = True,
    ) -> Searcher:
        """What `search` uses, with its model loaded; kept until the name stands for another index.

        Each call, and so each search, asks the index whether it is still the same, which on a
        server is one small request; to save it, keep the searcher.

        interactive: queries come one at a time, see `load_query_encoder`. The other parameters are
        those of `search`.
        """
        key = (None if model is None else os.fspath(model), interactive)
        with self._lock:
            kept = self._searchers.get(key)
            if kept is None or kept.meta != self._index.meta():  # an alias may have moved
                kept = Searcher(self._index, key[0], interactive=interactive)
                self._searchers[key] = kept
        return kept.pruned(query_top_k, query_threshold)

    @checked
    def explain(
        self,
        query: str,
        id: str,
        *,
        model: Path | None = None,
        query_top_k: int | None = None,
        query_threshold: float = 0.0,
    ) -> Explanation:
        """Why a document has its score for a query, token by token, whether or not it is found.

        id: of the document. The other parameters are those of `search`. Raises QueryError if there
        is no such document, or the query has no term.
        """
        searcher = self.searcher(
            model=model, query_top_k=query_top_k, query_threshold=query_threshold
        )
        key = (searcher.encoder.name, searcher.meta.max_length)
        with self._lock:
            encoder = self._document_encoders.get(key)
            if encoder is None:
                encoder = load_document_encoder(*key, interactive=True)
                self._document_encoders = {key: encoder}
        return explain(searcher, encoder, query, id)

    @checked
    def evaluate(
        self,
        collection: Path,
        measures: str = "nDCG@10 RR@10 R@1000 AP",
        *,
        split: str = "test",
        baseline: Literal["bm25"] | None = None,
        k: int = 1000,
        mode: Mode = "splade",
        filter: Filter | None = None,
        model: Path | None = None,
        query_top_k: int | None = None,
        query_threshold: float = 0.0,
    ) -> Evaluation:
        """Run the judged queries of a test collection, and measure the results.

        Parameters
        ----------
        collection : str or path
            BEIR folder with queries.jsonl and qrels/SPLIT.tsv.
        measures : str
            Names of ir-measures (https://ir-measur.es), with spaces between them.
        split : str
            Judgements to use.
        baseline : {"bm25"}, optional
            Measure this beside it, with a p-value for each measure.
        k : int
            Results of each query.
        mode, filter, model, query_top_k, query_threshold
            See `search`.

        Raises
        ------
        CorpusError
            The collection cannot be read.
        QueryError
            A measure is unknown.
        SettingsError
            k is smaller than the cutoff of a measure; there is no such mode or baseline.
        """

        def by_bm25(queries: Sequence[Query], k: int) -> Run:
            return bm25_run(self._index, queries, k, filter)

        def by_mode(queries: Sequence[Query], k: int) -> Run:
            searcher = self.searcher(
                model=model,
                query_top_k=query_top_k,
                query_threshold=query_threshold,
                interactive=False,
            )
            return searcher.run(queries, k, mode=mode, filter=filter)

        return evaluate_collection(
            self.name,
            os.fspath(collection),
            split,
            measures,
            k,
            by_bm25 if mode == "bm25" else by_mode,
            by_bm25 if baseline else None,
        )

    # Training data out

    def mine(
        self,
        data: Path,
        output: Path,
        *,
        progress: Callable[[MineProgress], object] | None = None,
        **settings: Unpack[MineSettings],
    ) -> MineProgress:
        """Find hard negatives for training data in the index, and write training lines.

        Parameters
        ----------
        data : str or path
            A BEIR folder, or JSON Lines with "query" and "positive", plain or compressed.
        output : str or path
            File for the training lines.
        progress : callable, optional
            Called with the counts after each batch of queries.
        **settings
            See `MineSettings`.
        """
        return follow(self.mine_steps(data, output, **settings), progress)

    def mine_steps(
        self,
        data: Path,
        output: Path,
        **settings: Unpack[MineSettings],
    ) -> Generator[MineProgress, None, None]:
        """`mine`, step by step: an iterator of its counts."""
        check_type("data", data, Path)
        check_type("output", output, Path)
        check_settings(settings, MineSettings, "mine")
        return mine_steps(self._index, os.fspath(data), os.fspath(output), settings)
