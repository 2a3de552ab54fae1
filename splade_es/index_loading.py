"""The half of the public `Index` that puts documents in."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from splade_es.arguments import check_settings, check_type, checked
from splade_es.encoders.base import TextEncoder
from splade_es.engines import base
from splade_es.indexing.aliases import Rollback, rollback
from splade_es.indexing.backfill import Backfill, BackfillSettings
from splade_es.indexing.load import Load
from splade_es.indexing.settings import LoadSettings
from splade_es.indexing.source import open_source
from splade_es.progress import BackfillProgress, LoadProgress, follow
from splade_es.search.searcher import Searcher
from splade_es.vectors.settings import EncodingSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: A file or folder.
Path: TypeAlias = str | os.PathLike[str]
#: A directory or hub name, or an encoder that is loaded already.
Model: TypeAlias = Path | TextEncoder

_Model = TypeVar("_Model")

_ENCODING_SETTINGS = frozenset(EncodingSettings.__annotations__)


def model_name(model: _Model | os.PathLike[str]) -> _Model | str:
    """A model as `open_source` and its like take it: a path becomes a string."""
    return os.fspath(model) if isinstance(model, os.PathLike) else model


class IndexLoading:
    """What `Index` can do with documents; see there."""

    def __init__(self, engine: base.Engine, name: str) -> None:
        self.name = name
        self._index = engine.index(name)
        #: For what takes hours: requests that may succeed later are sent again.
        self._patient = engine.index(name, retry=True)
        # by model and `interactive`; by model and length
        self._searchers: dict[tuple[str | None, bool], Searcher] = {}
        self._document_encoders: dict[tuple[str, int], TextEncoder] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        engine = self._index.engine
        return f"<Index {self.name!r} on {engine.name} at {engine.where}>"

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
            JSON Lines with "_id", "text" and, optionally, "title" and further fields, or a JSON
            array of the same objects; plain, or compressed by gzip, bzip2, xz or zstd; "-" for
            standard input; a BEIR folder; a file of rejects; or a folder that `encode` wrote, which
            needs no model.
        model : str, path or Encoder, optional
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
        source = open_source(os.fspath(corpus), model_name(model), encoding)  # type: ignore[arg-type]
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
        interruption, or to catch up with later changes. All other fields stay as they are, and no
        ingest pipeline runs. Servers only.

        Parameters
        ----------
        fields : sequence of str
            Fields whose text, one after the other, is encoded; "outer.inner" is one in an object,
            or in each object of a list.
        model : str, path or Encoder
            Directory or hub name, or an encoder that is loaded already.
        progress : callable, optional
            Called with the counts after each request.
        **settings
            See `BackfillSettings`.

        Raises
        ------
        EngineError
            A field is no text, or no document has it; an update would lose a field that `_source`
            is without; or the engine is the local one. Nothing is changed then.
        IndexMismatch
            The index has features of another model, or a field of its own with the name of one
            that is added.
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
        return Backfill(self._patient, fields, model_name(model), settings).steps()

    @checked
    def rollback(self) -> Rollback:
        """Let the alias of this name point to the index that it pointed to before.

        For an alias that `load` with `alias` has made; nothing is deleted. Raises EngineError if
        there is no earlier index.
        """
        self._searchers.clear()
        return rollback(self._index)
