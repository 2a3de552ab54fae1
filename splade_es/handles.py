"""The public handles: `connect` gives an `Engine`, and that an `Index` for each name."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

from splade_es.arguments import check_settings, check_type, checked
from splade_es.encoders.base import TextEncoder
from splade_es.encoders.load import load_document_encoder
from splade_es.engines import base
from splade_es.engines.connect import connect_engine
from splade_es.index_meta import IndexMeta
from splade_es.indexing.aliases import Rollback, rollback
from splade_es.indexing.backfill import Backfill, BackfillSettings
from splade_es.indexing.load import Load, LoadSettings
from splade_es.indexing.source import open_source
from splade_es.inspection.explain import Explanation, explain
from splade_es.progress import BackfillProgress, LoadProgress, MineProgress, follow
from splade_es.records import Document, Filter, Hit, IndexStats, Query, Run
from splade_es.search.evaluation import Evaluation, evaluate_collection
from splade_es.search.modes import Mode, bm25_run
from splade_es.search.searcher import Searcher
from splade_es.training.mining import MineSettings, mine_steps
from splade_es.vectors.settings import EncodingSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack


#: A file or folder.
Path: TypeAlias = str | os.PathLike[str]
#: A directory or hub name, or an encoder that is loaded already.
Model: TypeAlias = str | TextEncoder


@checked
def connect(url: str | None = None) -> Engine:
    """Connect to Elasticsearch, OpenSearch, or the local engine.

    Parameters
    ----------
    url : str, optional
        "http://host:9200"; several hosts of one cluster with commas between them, tried in turn;
        "cloud:CLOUD_ID" of Elastic Cloud; "local:DIR" for the local engine in that directory.
        Without a URL it is the local engine in $SPLADE_ES_HOME, or else in the user's data
        directory. A server is asked whether it is Elasticsearch or OpenSearch.

    Returns
    -------
    Engine
        Close it at the end, or use it in `with`.

    Raises
    ------
    EngineError
        The URL is invalid, or there is neither of the two servers behind it.
    Unavailable
        The server does not answer.

    Notes
    -----
    Credentials come from the URL or from these environment variables: SPLADE_ES_API_KEY,
    SPLADE_ES_BEARER_TOKEN, or SPLADE_ES_USERNAME and SPLADE_ES_PASSWORD, each secret also as a file
    (SPLADE_ES_PASSWORD_FILE and so on); for https also SPLADE_ES_CA_CERT,
    SPLADE_ES_CERT_FINGERPRINT, SPLADE_ES_CLIENT_CERT, SPLADE_ES_CLIENT_KEY, SPLADE_ES_INSECURE and
    SPLADE_ES_AWS_REGION.
    """
    return Engine(connect_engine(url))


class Engine:
    """A search engine. Made by `connect`; safe to use from several threads.

    Attributes
    ----------
    name : {"local", "opensearch", "elasticsearch"}
        Which engine it is.
    version : str
        Its version; "" where the server does not tell.
    where : str
        URL without credentials, or the directory of the local engine.
    """

    def __init__(self, engine: base.Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.version = engine.version
        self.where = engine.where

    @checked
    def index(self, name: str) -> Index:
        """A handle of an index or an alias. Nothing is sent, and it need not exist."""
        return Index(self._engine, name)

    def indices(self) -> list[str]:
        """Names of the indices that splade-es made, sorted."""
        return self._engine.indices()

    def close(self) -> None:
        """Release connections, locks and files. Safe to call twice."""
        self._engine.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Engine {self.name} {self.version} at {self.where}>"


class Index:
    """One index of an engine, by its name. Made by `Engine.index`.

    Every method raises `EngineError` or an error below it if the engine fails, and IndexMissing if
    the index does not exist, unless it says otherwise.

    Attributes
    ----------
    name : str
        Of the index, or of an alias.
    """

    def __init__(self, engine: base.Engine, name: str) -> None:
        self.name = name
        self._index = engine.index(name)
        #: For what takes hours: requests that may succeed later are sent again.
        self._patient = engine.index(name, retry=True)
        self._searchers: dict[tuple[object, ...], Searcher] = {}
        self._document_encoder: TextEncoder | None = None

    def __repr__(self) -> str:
        engine = self._index.engine
        return f"<Index {self.name!r} on {engine.name} at {engine.where}>"

    # What is there

    def exists(self) -> bool:
        """Whether the index exists."""
        return self._index.exists()

    def count(self) -> int:
        """Documents that searches can find."""
        return self._index.count()

    def meta(self) -> IndexMeta:
        """How its vectors were made: model, scale, length. Raises IndexMismatch for a foreign one."""
        return self._index.meta()

    def stats(self) -> IndexStats:
        """Documents, bytes on disk, field type."""
        return self._index.stats()

    @checked
    def documents(self, ids: Sequence[str]) -> list[Document]:
        """Title and text of documents, in the order of their ids; unknown ids are left out."""
        return self._index.documents(ids)

    def delete(self) -> None:
        """Delete the index with all its documents. Raises IndexMismatch for a foreign one."""
        self._index.delete()

    # Documents in

    def load(
        self,
        corpus: Path,
        model: Model | None = None,
        *,
        progress: Callable[[LoadProgress], object] | None = None,
        **settings: Unpack[LoadSettings],
    ) -> LoadProgress:
        """Encode a corpus and load it into the index, which is created if it does not exist.

        An index that exists is added to; documents that it has unchanged are left out.

        Parameters
        ----------
        corpus : str or path
            JSON Lines with "_id", "text" and, optionally, "title" and further fields, plain or .gz;
            "-" for standard input; a BEIR folder; or a folder that `encode` wrote, which needs no
            model.
        model : str or Encoder, optional
            Directory or hub name, or an encoder that is loaded already.
        progress : callable, optional
            Called with the counts after each request.
        **settings
            See `LoadSettings`: alias, resume, recreate, delete_missing, top_k and so on.

        Returns
        -------
        LoadProgress
            The counts at the end. `rejected` may be above 0: bad lines are in the file `rejects`
            with their reasons, and everything else is indexed.

        Raises
        ------
        CorpusError
            The corpus cannot be read, or differs from the one that is resumed.
        ModelError
            The model cannot be loaded.
        IndexMismatch
            The index was made with another model or other settings.
        SettingsError
            Settings that do not go together.
        Interrupted
            Ctrl-C; what was acknowledged is loaded, and `resume` continues.
        """
        return follow(self.load_steps(corpus, model, **settings), progress)

    def load_steps(
        self,
        corpus: Path,
        model: Model | None = None,
        **settings: Unpack[LoadSettings],
    ) -> Generator[LoadProgress, None, None]:
        """`load`, step by step: an iterator of its counts, the last of which is the result."""
        check_type("corpus", corpus, Path)
        check_type("model", model, Model | None)
        check_settings(settings, LoadSettings, "load")
        self._searchers.clear()
        encoding = {name: value for name, value in settings.items() if name in _ENCODING_SETTINGS}
        source = open_source(os.fspath(corpus), model, encoding)  # type: ignore[arg-type]
        return Load(self._patient, source, settings).steps()

    def backfill(
        self,
        fields: Sequence[str],
        model: Model,
        *,
        progress: Callable[[BackfillProgress], object] | None = None,
        **settings: Unpack[BackfillSettings],
    ) -> BackfillProgress:
        """Add SPLADE features to the documents of an index that exists and may be in use.

        A document that another writer changes meanwhile is never overwritten, but encoded again.
        Documents that have the features of their text are left alone: run it again after an
        interruption, or to catch up with later changes. Servers only.

        Parameters
        ----------
        fields : sequence of str
            Fields whose text, one after the other, is encoded; "outer.inner" is one in an object.
        model : str or Encoder
            Directory or hub name, or an encoder that is loaded already.
        progress : callable, optional
            Called with the counts after each request.
        **settings
            See `BackfillSettings`.

        Raises
        ------
        EngineError
            No document has text in these fields; or the engine is the local one.
        IndexMismatch
            The index has features of another model.
        """
        return follow(self.backfill_steps(fields, model, **settings), progress)

    def backfill_steps(
        self,
        fields: Sequence[str],
        model: Model,
        **settings: Unpack[BackfillSettings],
    ) -> Generator[BackfillProgress, None, None]:
        """`backfill`, step by step: an iterator of its counts."""
        check_type("fields", fields, Sequence[str])
        check_type("model", model, Model)
        check_settings(settings, BackfillSettings, "backfill")
        self._searchers.clear()
        return Backfill(self._patient, fields, model, settings).steps()

    @checked
    def rollback(self) -> Rollback:
        """Let the alias of this name point to the index that it pointed to before.

        For an alias that `load` with `alias` has made; nothing is deleted. Raises EngineError if
        there is no earlier index.
        """
        self._searchers.clear()
        return rollback(self._index)

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
        model: str | None = None,
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
            Also tell what each feature of the query adds to each score.
        model : str, optional
            Where the model is now, if it has moved.
        query_top_k : int, optional
            Keep this many terms of the query.
        query_threshold : float
            Drop query terms below this weight.

        Raises
        ------
        QueryError
            The query has no term; k, mode or filter is invalid.
        IndexMismatch
            The index was made by another model, or its model cannot be loaded.
        """
        searcher = self.searcher(
            model=model, query_top_k=query_top_k, query_threshold=query_threshold
        )
        return searcher.search(query, k, mode=mode, contributions=contributions, filter=filter)

    @checked
    def searcher(
        self,
        *,
        model: str | None = None,
        query_top_k: int | None = None,
        query_threshold: float = 0.0,
        interactive: bool = True,
    ) -> Searcher:
        """What `search` uses, with its model loaded; kept until the name stands for another index.

        interactive: queries come one at a time, see `load_query_encoder`. The other parameters are
        those of `search`.
        """
        key = (model, query_top_k, query_threshold, interactive)
        kept = self._searchers.get(key)
        if kept is None or kept.meta != self._index.meta():  # an alias may have moved
            self._document_encoder = None
            kept = self._searchers[key] = Searcher(
                self._index,
                model,
                top_k=query_top_k,
                threshold=query_threshold,
                interactive=interactive,
            )
        return kept

    @checked
    def explain(
        self,
        query: str,
        id: str,
        *,
        model: str | None = None,
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
        if self._document_encoder is None:
            self._document_encoder = load_document_encoder(
                searcher.encoder.name, searcher.meta.max_length, interactive=True
            )
        return explain(searcher, self._document_encoder, query, id)

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
        model: str | None = None,
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
            k is smaller than the cutoff of a measure.
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
            A BEIR folder, or JSON Lines with "query" and "positive", plain or .gz.
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


_ENCODING_SETTINGS = frozenset(EncodingSettings.__annotations__)
