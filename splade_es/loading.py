"""A load from its first look at the index to the alias: what can be prepared, undone, or gone on
with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from splade_es.engines.base import Engine, FieldType
from splade_es.errors import AccessDenied, EngineError
from splade_es.indexing import check_same, open_index
from splade_es.journal import Journal
from splade_es.records import IndexMeta, Source

# Settings for a load. Where there were none, null brings back the server's default.
_QUIET: dict[str, Any] = {"refresh_interval": "-1"}
_SINGLE: dict[str, Any] = {"auto_expand_replicas": "false", "number_of_replicas": "0"}
# What they were, while a load has changed them.
_NOTE = "settings before the load"


def begin(
    engine: Engine,
    index: str,
    meta: IndexMeta,
    quantizer: str,
    journal: Journal | None,
    *,
    recreate: bool = False,
    field_type: FieldType | None = None,
    source: Source = "full",
) -> bool:
    """Open the index of a load that begins, or goes on by its journal; whether the load made it.

    quantizer: its settings. Raises IndexMismatch and CorpusError if the load, or the journal, does
    not fit the index.
    """
    if journal and journal.header:
        check_same(engine.meta(index), meta, index)
        new = bool(journal.header.get("new"))
    else:
        new = open_index(
            engine, index, meta, recreate=recreate, field_type=field_type, source=source
        )
        # or an earlier load was killed before it could restore them
        new = new or bool(engine.noted(index).get(_NOTE))
    if journal:
        settings = engine.settings(index)
        engine.refresh(index)
        journal.begin(
            {
                "index": index,
                "uuid of the index": settings["uuid"],
                "model": meta.fingerprint,
                "vocabulary": meta.vocabulary,
                "codec": meta.codec,
                "scale": meta.scale,
                "length": meta.max_length,
                "setting": quantizer,
            },
            {"documents": engine.count(index), "new": new},
        )
    return new


@contextmanager
def quiet(engine: Engine, index: str, *, replicas: bool = True) -> Iterator[None]:
    """An index that nobody uses yet, with settings for loading: no refresh and, where `replicas` is
    false, one copy only. They are restored at the end, after a failure too; if this process dies,
    by the next load into it. Left alone if this user may not change them."""
    loading = _QUIET if replicas else {**_QUIET, **_SINGLE}
    settings = engine.settings(index)
    # all of them: an earlier load may have set more than this one does
    restored = engine.noted(index).get(_NOTE) or {
        name: settings.get(name) for name in (*_QUIET, *_SINGLE)
    }
    if restored.get("auto_expand_replicas") not in (None, "false"):
        restored.pop("number_of_replicas", None)  # the server finds it again
    try:
        engine.apply(index, loading)
    except AccessDenied:
        yield
        return
    engine.note(index, {_NOTE: restored})
    try:
        yield
    except BaseException as failure:
        try:
            _restore(engine, index, restored)
        except EngineError as error:
            raise EngineError(
                f"{failure or 'Interrupted'}; and the index {index!r} is left with "
                f"refresh_interval -1 ({error})",
                "The next load into it restores its settings.",
            ) from failure
        raise
    _restore(engine, index, restored)


def _restore(engine: Engine, index: str, settings: dict[str, Any]) -> None:
    engine.apply(index, settings)
    engine.note(index, {_NOTE: None})
