"""Files that appear whole or not at all, and the directory of the product's own data."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from filelock import lock_descriptor

from splade_es.errors import SettingsError, SpladeEsError


def data_directory() -> Path:
    """Return $SPLADE_ES_HOME, or the user's data directory for splade-es. It need not exist.

    On Linux that is $XDG_DATA_HOME/splade-es or ~/.local/share/splade-es.
    """
    if named := os.environ.get("SPLADE_ES_HOME"):
        return Path(named)
    from platformdirs import user_data_path

    return user_data_path("splade-es", appauthor=False)


class PartFile:
    """A temporary file beside its target, to be written first and then renamed. Raises OSError.

    Attributes
    ----------
    path : Path
        The file to write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._target = Path(os.path.realpath(path))  # a link stays a link
        # a device, such as /dev/stdout, is written directly
        self._special = self._target.exists() and not self._target.is_file()
        self.path = (
            self._target
            if self._special
            else self._target.with_name(f".{self._target.name}.{uuid.uuid4().hex[:12]}.tmp")
        )

    def commit(self) -> None:
        """Rename it to its target. It must be closed."""
        if not self._special:
            self.path.replace(self._target)

    def discard(self) -> None:
        """Remove it, unless it was committed."""
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
    """Open a file for writing that appears when the block ends, and not after an error.

    Parameters
    ----------
    path : str or path
        The file. One that exists is replaced.
    kind : type of SpladeEsError
        Error to raise if it cannot be written.
    mode : {"w", "wb"}
        Text, in UTF-8, or bytes.
    sync : bool
        Also wait until it is on the disk.
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


@contextmanager
def replacing_files(directory: str | os.PathLike[str], last: str) -> Iterator[Path]:
    """Open a temporary directory whose files move into `directory` when the block ends.

    Each file is renamed, so that no reader sees half of one. Files in folders come first, and at
    the top level those with the suffix `last` come last: they show that the directory is complete.
    After an error nothing has changed. Raises OSError.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part", dir=target) as name:
        part = Path(name)
        yield part
        files = [path for path in part.rglob("*") if path.is_file()]
        files.sort(key=lambda path: (-len(path.parts), path.suffix == last))
        for path in files:
            path.chmod(0o644)  # safetensors makes files that only their owner can read
            place = target / path.relative_to(part)
            place.parent.mkdir(exist_ok=True)
            path.replace(place)


def check_not_input(setting: str, path: str, *inputs: str | None) -> None:
    """Raise SettingsError if a file to write is an input of the same command.

    setting: what names it; inputs: files, or folders of which every file is an input.
    """
    if not os.path.isfile(path):
        return
    real = os.path.realpath(path)
    for name in inputs:
        if name and os.path.exists(name):
            source = os.path.realpath(name)
            if real == source or real.startswith(os.path.join(source, "")):
                raise SettingsError(
                    f"`{setting}` would overwrite the input {path}", "Name another file."
                )


def lock(file: IO[bytes]) -> bool:
    """Lock an open file, without waiting; False where another process has it locked.

    The system releases the lock when the file is closed, or the process ends, however it ends.
    Raises OSError where the file system has no locks.
    """
    return lock_descriptor(file.fileno(), blocking=False)


def lock_file(path: Path, seconds: float) -> IO[bytes] | None:
    """Lock a file that exists for that alone, which is made; None if others hold it that long.

    The lock is held until the file is closed. The file stays: if it were removed, two processes
    could hold locks of one name. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        until = time.monotonic() + seconds
        while not lock(file):
            if time.monotonic() >= until:
                file.close()
                return None
            time.sleep(0.05)
    except BaseException:
        file.close()
        raise
    return file


def sync_directory(directory: Path) -> None:
    """Write the names in a directory to the disk. Windows has no such call, and needs none."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
