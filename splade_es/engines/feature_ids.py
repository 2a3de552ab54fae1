"""Feature name <-> number of a dimension, in a file that only grows.

Qdrant Edge knows the dimensions of a sparse vector by number only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from splade_es.errors import EngineError


class FeatureIds:
    """The features seen so far. Line n of the file is a JSON string, the name of dimension n.

    What is added is on the disk before `add` returns, and so before a vector can use it.

    Raises EngineError for a file that `add` did not write.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_bytes()
        # A line without its end was cut off by a crash, before any vector could use it.
        lines = lines[: lines.rfind(b"\n") + 1]
        try:
            names = json.loads(b"[" + lines.rstrip().replace(b"\n", b",") + b"]")
            numbers = {str(name): n for n, name in enumerate(names)}
        except ValueError:
            names, numbers = [None], {}
        if len(numbers) != len(names):
            raise EngineError(f"{file} is damaged", "Index again with `recreate`.")
        # One attribute, so that an interrupt cannot leave one of the two behind.
        self._size_and_numbers = len(lines), numbers

    @property
    def numbers(self) -> Mapping[str, int]:
        """The dimension of each name."""
        return self._size_and_numbers[1]

    def add(self, names: Iterable[str]) -> None:
        """Give each name that has none a dimension."""
        size, numbers = self._size_and_numbers
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
        numbers = numbers | {name: len(numbers) + n for n, name in enumerate(new)}
        self._size_and_numbers = size + len(lines), numbers
