"""Files that appear whole or not at all, and the directory of the product's own data."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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

    What a process that was killed has left beside the same target is removed.

    Attributes
    ----------
    path : Path
        The file to write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._target = Path(os.path.realpath(path))  # a link stays a link
        # a device, such as /dev/stdout, is written directly
        self._special = self._target.exists() and not self._target.is_file()
        self._held: int | None = None
        self.path = self._target
        if not self._special:
            _remove_left(self._target.parent, f".{self._target.name}.", ".tmp")
            self.path, self._held = _hold_new(
                lambda: self._target.with_name(f".{self._target.name}.{_random()}.tmp"), Path.touch
            )

    def commit(self) -> None:
        """Rename it to its target. It must be closed."""
        if not self._special:
            self.path.replace(self._target)
            self._release()

    def discard(self) -> None:
        """Remove it, unless it was committed."""
        if not self._special:
            self.path.unlink(missing_ok=True)
            self._release()

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None


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
    part: PartFile | None = None
    try:
        part = PartFile(path)
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
        if part:
            part.discard()


@contextmanager
def replacing_files(directory: str | os.PathLike[str], last: str) -> Iterator[Path]:
    """Open a temporary directory whose files move into `directory` when the block ends.

    Each file is renamed, so that no reader sees half of one. Files in folders come first, and at
    the top level those with the suffix `last` come last: they show that the directory is complete.
    After an error nothing has changed. What a process that was killed has left is removed. Raises
    OSError.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    _remove_left(target, ".part", "")
    part, held = _hold_new(lambda: target / f".part{_random()}", Path.mkdir)
    try:
        yield part
        files = [path for path in part.rglob("*") if path.is_file()]
        files.sort(key=lambda path: (-len(path.parts), path.suffix == last))
        for path in files:
            path.chmod(0o644)  # safetensors makes files that only their owner can read
            place = target / path.relative_to(part)
            place.parent.mkdir(exist_ok=True)
            path.replace(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if held is not None:
            os.close(held)


def _random() -> str:
    return uuid.uuid4().hex[:12]


def _remove_left(directory: Path, before: str, after: str) -> None:
    """Remove what has a temporary name and no living process holds; see `_random`."""
    name = re.compile(f"{re.escape(before)}[0-9a-f]{{12}}{re.escape(after)}")
    found: list[Path] = []
    with suppress(OSError):  # a directory that does not exist, or cannot be listed
        found = [path for path in directory.iterdir() if name.fullmatch(path.name)]
    for path in found:
        with suppress(OSError):  # it is held, or just gone
            if (held := _hold(path)) is not None:
                try:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()
                finally:
                    os.close(held)


def _hold_new(
    choose: Callable[[], Path], make: Callable[[Path], object]
) -> tuple[Path, int | None]:
    """Make a file or directory of a temporary name, and hold it. Raises OSError."""
    while True:
        path = choose()
        make(path)
        try:
            held = _hold(path)
        except BlockingIOError:
            continue  # another process takes it for left, and is removing it
        if held is None or path.exists():
            return path, held
        os.close(held)  # another process has removed it before it was held


def _hold(path: Path) -> int | None:
    """A descriptor that keeps `_remove_left` from a file or directory until it is closed.

    None where that cannot be: on Windows, and on a file system without locks. Raises
    BlockingIOError if another process holds it.
    """
    if os.name != "posix":
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if lock_descriptor(descriptor, blocking=False):
            return descriptor
    except OSError:
        os.close(descriptor)
        return None
    os.close(descriptor)
    raise BlockingIOError(f"{path} is held")


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
