"""Settings of an index while it is loaded, and their way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from splade_es.engines.base import EngineIndex, IndexSettings
from splade_es.errors import AccessDenied, EngineError, Interrupted

# Where a setting was not set, null brings back the server's default.
_NO_REFRESH: dict[str, Any] = {"refresh_interval": "-1"}
_NO_REPLICAS: dict[str, Any] = {"auto_expand_replicas": "false", "number_of_replicas": "0"}
# The values from before, while a load has changed them.
_NOTE = "settings before the load"
# Seconds for the way back after a failure: the server may be what failed.
_BRIEFLY = 10.0


def has_loading_settings(index: EngineIndex) -> bool:
    """Whether an earlier load was killed before it could restore the settings."""
    return index.settings is not None and bool(index.settings.read_notes().get(_NOTE))


@contextmanager
def loading_settings(index: EngineIndex, *, replicas: bool = True) -> Iterator[None]:
    """A new index with settings for loading.

    It does not refresh and, where `replicas` is false, has one copy only. The settings are restored
    at the end, after a failure too; if this process dies, by the next load into the index. They
    stay as they are if this user may not change them, and on an engine that has none.
    """
    if index.settings is None:
        yield
        return
    settings = index.settings
    current = settings.read()
    # all of them: an earlier load may have set more than this one does
    before = settings.read_notes().get(_NOTE) or {
        name: current.get(name) for name in (*_NO_REFRESH, *_NO_REPLICAS)
    }
    if before.get("auto_expand_replicas") not in (None, "false"):
        before.pop("number_of_replicas", None)  # the server finds it again
    try:
        settings.write_notes({_NOTE: before})  # first, or a kill in between would lose them
        settings.write(_NO_REFRESH if replicas else {**_NO_REFRESH, **_NO_REPLICAS})
    except AccessDenied:
        with suppress(AccessDenied):
            settings.write_notes({_NOTE: None})
        yield
        return
    try:
        yield
    except BaseException as failure:
        try:
            _restore(settings, before, _BRIEFLY)
        except EngineError as error:
            kind = Interrupted if isinstance(failure, KeyboardInterrupt) else EngineError
            raise kind(
                f"{str(failure) or 'Interrupted'}; and the index {index.name!r} is left with "
                f"refresh_interval -1 ({error})",
                "The next load into it restores its settings.",
            ) from failure
        raise
    _restore(settings, before)


def _restore(settings: IndexSettings, before: dict[str, Any], timeout: float | None = None) -> None:
    settings.write(before, timeout)
    settings.write_notes({_NOTE: None})
