"""A folder of vectors: a corpus that is encoded once, and can be indexed often.

    vectors/meta.json            what an index must remember, how it was encoded, how many documents
    vectors/vocabulary.json      the token of each id
    vectors/part-00000.parquet   see `COLUMNS`; and so on

A part appears whole or not at all, in the order of the corpus, so that an interrupted run continues
after the last one. Parquet needs pyarrow, an extra.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from splade_es.data.files import atomic_file
from splade_es.errors import CorpusError
from splade_es.features import vocabulary_sha256
from splade_es.index_meta import IndexMeta
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded, Quantized

#: Files of a folder beside its parts.
META, VOCABULARY = "meta.json", "vocabulary.json"
#: Columns of a part. fields: as JSON; indices, values: lists of integers, see `Quantized`.
COLUMNS = ("id", "title", "text", "fields", "indices", "values", "truncated")


class VectorFolder(NamedTuple):
    """A folder of vectors.

    Attributes
    ----------
    path : Path
        The folder.
    meta : IndexMeta
        How the vectors were made.
    settings : str
        Settings of the quantizer, see `Quantizer.settings`.
    vocabulary : list of str
        The token of each id.
    documents : int or None
        Number of documents; None while the folder is incomplete.
    """

    path: Path
    meta: IndexMeta
    settings: str
    vocabulary: list[str]
    documents: int | None


def is_vector_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder of vectors, complete or not."""
    return Path(path, META).is_file() and Path(path, VOCABULARY).is_file()


def open_vectors(path: str | os.PathLike[str]) -> VectorFolder:
    """Open a folder of vectors. Raises CorpusError if it is incomplete or cannot be read."""
    folder = _open(Path(path))
    if folder.documents is None:
        raise CorpusError(f"{path}: its encoding has not ended", "Continue it with `resume`.")
    found = count_documents(folder.path)
    if found != folder.documents:
        raise CorpusError(
            f"{path}: has {found:,} documents instead of {folder.documents:,}",
            "A part is missing: encode the corpus again.",
        )
    return folder


def read_vectors(folder: VectorFolder) -> Iterator[Encoded]:
    """Read the documents in the order of the corpus. Raises CorpusError for a damaged part."""
    number = 0
    for path in list_parts(folder.path):
        columns = read_part(path)
        lists = columns["indices"]
        ends = np.asarray(lists.offsets).tolist()  # [n + 1]
        ids = np.asarray(lists.values)  # [N], of all documents of the part, one after the other
        values = np.asarray(columns["values"].values).astype(np.int32)  # [N]
        names = [name for name in COLUMNS if name not in ("indices", "values")]
        rows = zip(*(columns[name].to_pylist() for name in names), strict=True)
        for n, (id, title, text, fields, truncated) in enumerate(rows):
            start, end = ends[n], ends[n + 1]
            number += 1
            further = json.loads(fields) if fields != "{}" else {}
            yield Encoded(
                Document(id, text, title, further, f"{path}:{n + 1}", number),
                Quantized(ids[start:end], values[start:end], 0, truncated),
            )


def count_documents(folder: Path) -> int:
    """Count the documents in the parts of a folder. Raises CorpusError for a damaged part."""
    pa, pq = import_pyarrow()
    count = 0
    for part in list_parts(folder):
        try:
            count += int(pq.read_metadata(part).num_rows)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(part, error) from error
    return count


def list_parts(folder: Path) -> list[Path]:
    """List the parts of a folder, in order."""
    return sorted(folder.glob("part-*.parquet"))


def read_part(path: Path, columns: Sequence[str] = COLUMNS) -> dict[str, Any]:
    """Read some columns of a part as Arrow arrays, by default all. Raises CorpusError."""
    pa, pq = import_pyarrow()
    try:
        table = pq.read_table(path, columns=list(columns))
        return {name: table[name].combine_chunks() for name in columns}
    except (OSError, pa.ArrowException, KeyError) as error:
        raise _unreadable(path, error) from error


def write_part(folder: Path, number: int, part: Sequence[Encoded]) -> None:
    """Write one part of a folder. Raises CorpusError."""
    pa, pq = import_pyarrow()
    documents = [item.document for item in part]
    vectors = [item.vector for item in part]
    ends = pa.array(np.cumsum([0, *(len(v.ids) for v in vectors)]).astype(np.int32))  # [n + 1]
    table = pa.table(
        {
            "id": [d.id for d in documents],
            "title": [d.title for d in documents],
            "text": [d.text for d in documents],
            "fields": [
                json.dumps(dict(d.fields), ensure_ascii=False) if d.fields else "{}"
                for d in documents
            ],
            "indices": pa.ListArray.from_arrays(ends, np.concatenate([v.ids for v in vectors])),
            "values": pa.ListArray.from_arrays(
                ends, np.concatenate([v.values for v in vectors]).astype(np.int16)
            ),
            "truncated": [v.truncated for v in vectors],
        }
    )
    with atomic_file(folder / f"part-{number:05}.parquet", CorpusError, "wb") as file:
        pq.write_table(table, file, compression="zstd")


def read_json(path: Path) -> Any:
    """Read a JSON file of a folder. Raises CorpusError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def import_pyarrow() -> tuple[Any, Any]:
    """Return the modules pyarrow and pyarrow.parquet. Raises CorpusError without pyarrow."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise CorpusError(
            "Vectors are kept in Parquet files, which need pyarrow",
            "Install it: pip install 'splade-es[parquet]'",
        ) from error
    return pa, pq


def _open(path: Path) -> VectorFolder:
    meta, vocabulary = read_json(path / META), read_json(path / VOCABULARY)
    try:
        folder = VectorFolder(
            path,
            IndexMeta.from_dict(meta),
            Quantizer(meta["scale"], meta["top_k"], meta["threshold"]).settings,
            [str(token) for token in vocabulary],
            meta["documents"],
        )
    except (KeyError, TypeError) as error:
        raise CorpusError(
            f"{path / META}: not written by splade-es ({error})", "Encode the corpus again."
        ) from error
    if vocabulary_sha256(folder.vocabulary) != folder.meta.vocabulary:
        raise CorpusError(
            f"{path / VOCABULARY}: not the vocabulary that the vectors were made with",
            "Encode the corpus again.",
        )
    return folder


def _unreadable(path: Path, error: Exception) -> CorpusError:
    return CorpusError(
        f"{path}: cannot be read ({error})", "Name a folder of vectors, or encode the corpus again."
    )
