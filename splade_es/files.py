"""Files that appear whole or not at all, and where those of the product live."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from splade_es.errors import SpladeEsError


def home() -> Path:
    """$SPLADE_ES_HOME, $XDG_DATA_HOME/splade-es or ~/.local/share/splade-es; it need not exist."""
    if named := os.environ.get("SPLADE_ES_HOME"):
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "splade-es"


@contextmanager
def whole_file(path: str, kind: type[SpladeEsError]) -> Iterator[TextIO]:
    """A file to write, beside its place; it takes it when the block ends, and not by an error.

    kind: the error to raise if it cannot be written.
    """
    target = os.path.realpath(path)  # a link stays a link
    special = os.path.exists(target) and not os.path.isfile(target)  # /dev/stdout must stay, too
    part = target if special else f"{target}.{os.getpid()}.tmp"
    try:
        with open(part, "w", encoding="utf-8") as file:
            yield file
        if not special:
            os.replace(part, target)
    except OSError as error:
        raise kind(
            f"{path}: cannot be written ({error.strerror or error})",
            "Check the directory, its permissions and its free space.",
        ) from error
    finally:
        if not special and os.path.exists(part):
            os.remove(part)
