"""Feature name <-> number of a dimension, in a file that only grows.

Qdrant Edge knows the dimensions of a sparse vector by number only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from splade_es.data.files import PartFile, sync_directory
from splade_es.errors import EngineError


class FeatureIds:
    """The features seen so far. Line n of the file is a JSON string, the name of dimension n.

    A file beside it, with the suffix .json, has the number of bytes that vectors may use and their
    SHA-256: without a line, or with its lines in another order, the file would give other scores.
    Both are on the disk before `add` returns, and so before a vector can use what is added. What
    follows those bytes was cut off by a crash before that, and is forgotten.

    Raises EngineError for a file that `add` did not write.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._check = file.with_suffix(".json")
        try:
            check = json.loads(self._check.read_bytes())
            lines = file.read_bytes()[: check["bytes"]]
            sha256 = hashlib.sha256(lines)
            if [len(lines), sha256.hexdigest()] != [check["bytes"], check["sha256"]]:
                raise ValueError
            names = json.loads(b"[" + lines.rstrip().replace(b"\n", b",") + b"]")
            numbers = {str(name): n for n, name in enumerate(names)}
        except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
            raise EngineError(
                f"{file} or {self._check.name} is damaged",
                "Delete the index, and load the corpus again.",
            ) from error
        # One attribute, so that an interrupt cannot leave one of them behind.
        self._state = len(lines), sha256, numbers

    @staticmethod
    def create(file: Path) -> None:
        """Make the two files, without features."""
        file.touch()
        _write_check(file.with_suffix(".json"), 0, hashlib.sha256().hexdigest())

    @property
    def numbers(self) -> Mapping[str, int]:
        """The dimension of each name."""
        return self._state[2]

    def add(self, names: Iterable[str]) -> None:
        """Give each name that has none a dimension."""
        size, sha256, numbers = self._state
        new = [name for name in dict.fromkeys(names) if name not in numbers]
        if not new:
            return
        lines = "".join(json.dumps(name) + "\n" for name in new).encode("ascii")
        with self._file.open("r+b") as file:
            file.seek(size)
            file.truncate()  # what a crash or a full disk left of an earlier attempt
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        sha256 = sha256.copy()
        sha256.update(lines)
        size += len(lines)
        _write_check(self._check, size, sha256.hexdigest())
        self._state = size, sha256, numbers | {name: len(numbers) + n for n, name in enumerate(new)}


def _write_check(path: Path, size: int, sha256: str) -> None:
    part = PartFile(path)
    try:
        with part.path.open("w", encoding="ascii") as file:
            json.dump({"bytes": size, "sha256": sha256}, file)
            file.flush()
            os.fsync(file.fileno())
        part.commit()
        sync_directory(path.parent)
    finally:
        part.discard()
