"""Records from Parquet files, and from datasets that `datasets` saved with `save_to_disk`.

A saved dataset is a folder with state.json, which lists its files, each an Arrow stream; a folder
with dataset_dict.json has such a folder for each split. pyarrow, an optional dependency, reads
both.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from typing import Any

from splade_es.errors import CorpusError, TrainingError
from splade_es.training.formats.rows import Records

_ROWS = 256  # that are turned into Python objects at once


def is_table(path: str) -> bool:
    """Whether a path is a Parquet file, a folder of them, or a saved dataset."""
    if os.path.isdir(path):
        names = ("state.json", "dataset_dict.json", "*.parquet")
        return any(glob.glob(f"{glob.escape(path)}/{name}") for name in names)
    if not os.path.isfile(path):  # what is read from a pipe here would be lost
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False  # it will be read as lines, and the error says why


def read_tables(path: str) -> Records:
    """Stream the rows of a file or folder; in each file their numbers start at 1.

    Raises TrainingError if pyarrow is missing, CorpusError if a file cannot be read.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]
    except ImportError as exc:
        raise TrainingError(
            f"{path}: Parquet files and saved datasets need pyarrow",
            "pip install 'splade-es[parquet]'",
        ) from exc

    def batches(file: str) -> Iterator[Any]:
        if file.endswith(".arrow"):
            with pa.memory_map(file) as mapped, pa.ipc.open_stream(mapped) as stream:
                yield from stream
        else:
            with pq.ParquetFile(file) as parquet:
                yield from parquet.iter_batches(_ROWS)

    for file in _files(path):
        number = 0
        try:
            for batch in batches(file):
                batch.validate(full=True)  # a damaged one can end the process
                for start in range(0, batch.num_rows, _ROWS):
                    for record in batch.slice(start, _ROWS).to_pylist():
                        number += 1
                        yield f"{file}:{number}", record
        except (pa.ArrowException, OSError, LookupError, ArithmeticError, ValueError) as exc:
            said = str(exc).partition("\n")[0]
            raise CorpusError(
                f"{file}: cannot be read after row {number} ({said})", "Copy or download it again."
            ) from exc


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    splits = os.path.join(path, "dataset_dict.json")
    folder = os.path.join(path, "train") if os.path.exists(splits) else path
    state = os.path.join(folder, "state.json")
    if not os.path.exists(state):
        files = sorted(glob.glob(f"{glob.escape(folder)}/*.parquet"))
        if not files:
            raise CorpusError(
                f"{folder}: there is no state.json and no *.parquet",
                "Give a folder of Parquet files, or one that save_to_disk wrote.",
            )
        return files
    try:
        with open(state, encoding="utf-8") as stream:
            return [os.path.join(folder, f["filename"]) for f in json.load(stream)["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise CorpusError(
            f"{state}: does not list the dataset's files ({exc!r})", "Save the dataset again."
        ) from exc
