"""Files that appear whole or not at all, and the directory of the product's own data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from splade_es.errors import SpladeEsError


def data_directory() -> Path:
    """$SPLADE_ES_HOME, or the user's data directory for splade-es; it need not exist.

    On Linux that is $XDG_DATA_HOME/splade-es or ~/.local/share/splade-es.
    """
    if named := os.environ.get("SPLADE_ES_HOME"):
        return Path(named)
    from platformdirs import user_data_path

    return user_data_path("splade-es", appauthor=False)


class PartFile:
    """A file beside its place: written first, then renamed. Raises OSError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._target = Path(os.path.realpath(path))  # a link stays a link
        # a device, /dev/stdout say, must stay one
        self._special = self._target.exists() and not self._target.is_file()
        self.path = (
            self._target
            if self._special
            else self._target.with_name(f".{self._target.name}.{os.getpid()}.tmp")
        )

    def commit(self) -> None:
        """Put it in its place; it must be closed."""
        if not self._special:
            self.path.replace(self._target)

    def discard(self) -> None:
        """Remove it, unless it is in its place."""
        if not self._special:
            self.path.unlink(missing_ok=True)


@contextmanager
def atomic_file(
    path: str | os.PathLike[str],
    kind: type[SpladeEsError],
    mode: Literal["w", "wb"] = "w",
    *,
    sync: bool = False,
) -> Iterator[IO[Any]]:
    """A file to write, which takes its place when the block ends, and not after an error.

    kind: the error to raise if it cannot be written; sync: bring it to the disk first.
    """
    part = PartFile(path)
    try:
        with part.path.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.commit()
    except OSError as error:
        raise kind(
            f"{os.fspath(path)}: cannot be written ({error.strerror or error})",
            "Check the directory, its permissions and its free space.",
        ) from error
    finally:
        part.discard()
