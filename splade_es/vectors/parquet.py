"""A folder of vectors: a corpus that is encoded once, and can be indexed often.

    vectors/meta.json            what an index must remember, how it was encoded, how many documents
    vectors/vocabulary.json      the token of each id
    vectors/part-00000.parquet   see `COLUMNS`; and so on

A part appears whole or not at all, in the order of the corpus, so that an interrupted run continues
after the last one. Parquet needs pyarrow, an extra.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from splade_es.data.files import atomic_file
from splade_es.errors import CorpusError, ModelError
from splade_es.features import vocabulary_sha256
from splade_es.index_meta import IndexMeta
from splade_es.limits import MAX_WEIGHT
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded, Quantized

#: Files of a folder beside its parts.
META, VOCABULARY = "meta.json", "vocabulary.json"
# Key of the metadata of a part, which says where it belongs.
_PART = b"splade-es part"


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
    key : str
        See `folder_key`.
    """

    path: Path
    meta: IndexMeta
    settings: str
    vocabulary: list[str]
    documents: int | None
    key: str


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
        columns = read_part(path, folder.key)
        lists = columns["indices"]
        ends = np.asarray(lists.offsets).tolist()  # [n + 1]
        ids = np.asarray(lists.values)  # [N], of all documents of the part, one after the other
        values = np.asarray(columns["values"].values).astype(np.int32)  # [N]
        _check_vectors(path, ids, values, len(folder.vocabulary))
        names = ("id", "title", "text", "fields", "truncated")
        rows = zip(*(columns[name].to_pylist() for name in names), strict=True)
        for n, (id, title, text, fields, truncated) in enumerate(rows):
            start, end = ends[n], ends[n + 1]
            number += 1
            place = f"{path}:{n + 1}"
            further = _parse_fields(place, fields) if fields != "{}" else {}
            yield Encoded(
                Document(id, text, title, further, place, number),
                Quantized(ids[start:end], values[start:end], 0, truncated),
            )


def count_documents(folder: Path) -> int:
    """Count the documents in the parts of a folder. Raises CorpusError for a damaged part."""
    _, pq = import_pyarrow()
    count = 0
    for part in list_parts(folder):
        with _reading(part):
            count += int(pq.read_metadata(part).num_rows)
    return count


def list_parts(folder: Path) -> list[Path]:
    """List the parts of a folder, in order. Raises CorpusError if one is missing."""
    parts = sorted(folder.glob("part-*.parquet"), key=lambda part: (len(part.name), part.name))
    for number, part in enumerate(parts):
        if part.name != _part_name(number):
            raise CorpusError(
                f"{folder}: there is no {_part_name(number)}, but {parts[-1].name}",
                "Encode the corpus again.",
            )
    return parts


def read_part(path: Path, key: str, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Read some columns of a part as Arrow arrays, by default all.

    key: of the folder. Raises CorpusError for a part that is damaged or does not belong here.
    """
    _, pq = import_pyarrow()
    with _reading(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        if not schema.equals(_schema()):
            raise ValueError(f"its columns are {', '.join(schema.names)[:100]}, or of other types")
        if (schema.metadata or {}).get(_PART) != _belongs(path.name, key):
            raise ValueError("it was another part, or one of other vectors")
        table = file.read(columns=columns)
        table.validate(full=True)
        arrays = {name: table[name].combine_chunks() for name in table.column_names}
        lists = [arrays[name] for name in ("indices", "values") if name in arrays]
        if any(a.null_count for a in [*arrays.values(), *(array.values for array in lists)]):
            raise ValueError("it has empty cells")
        if len(lists) == 2 and not lists[0].offsets.equals(lists[1].offsets):
            raise ValueError("not every index has a value")
        return arrays


def write_part(folder: Path, number: int, part: Sequence[Encoded], key: str) -> None:
    """Write one part of a folder. key: see `folder_key`. Raises CorpusError."""
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
        },
        schema=_schema().with_metadata({_PART: _belongs(_part_name(number), key)}),
    )
    with atomic_file(folder / _part_name(number), CorpusError, "wb") as file:
        pq.write_table(table, file, compression="zstd")


def read_json(path: Path) -> Any:
    """Read a JSON file of a folder. Raises CorpusError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


def folder_key(meta: Mapping[str, Any]) -> str:
    """What the vectors of a folder have in common, of what its META says; each part holds it."""
    others = ("model", "toolkit", "documents")  # these may differ between its parts
    common = {name: value for name, value in meta.items() if name not in others}
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()


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
        known = IndexMeta.from_dict(meta)
        documents = meta["documents"]
        if not (documents is None or (type(documents) is int and documents >= 0)):
            raise ValueError(f"documents is {str(documents)[:40]!r}")
        folder = VectorFolder(
            path,
            known,
            Quantizer(meta["scale"], meta["top_k"], meta["threshold"]).settings,
            vocabulary,
            documents,
            folder_key(meta),
        )
    except (KeyError, TypeError, ValueError, ModelError) as error:
        raise CorpusError(
            f"{path / META}: not written by splade-es ({error})", "Encode the corpus again."
        ) from error
    if not (
        isinstance(vocabulary, list)
        and all(isinstance(token, str) for token in vocabulary)
        and vocabulary_sha256(vocabulary) == folder.meta.vocabulary
    ):
        raise CorpusError(
            f"{path / VOCABULARY}: not the vocabulary that the vectors were made with",
            "Encode the corpus again.",
        )
    return folder


def _part_name(number: int) -> str:
    return f"part-{number:05}.parquet"


def _belongs(name: str, key: str) -> bytes:
    return f"{name} of {key}".encode()


def _schema() -> Any:
    pa, _ = import_pyarrow()
    texts = [(name, pa.string()) for name in ("id", "title", "text", "fields")]
    lists = [("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.int16()))]
    return pa.schema([*texts, *lists, ("truncated", pa.bool_())])


def _check_vectors(path: Path, ids: Any, values: Any, size: int) -> None:
    """Raise CorpusError for ids, or integers, that no vector has. ids, values: [N]."""
    if len(ids) and not (ids.min() >= 0 and ids.max() < size):
        raise _unreadable(path, "it has ids of tokens that are not in the vocabulary")
    if len(values) and not (values.min() >= 1 and values.max() <= MAX_WEIGHT):
        raise _unreadable(path, f"it has values that are not 1 to {MAX_WEIGHT}")


def _parse_fields(place: str, text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise _unreadable(place, f"its fields are {text[:40]!r}, not an object")
    return fields


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a damaged file raises in pyarrow becomes CorpusError."""
    pa, _ = import_pyarrow()
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, MemoryError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, why: Exception | str) -> CorpusError:
    said = str(why).partition("\n")[0][:200]
    return CorpusError(
        f"{path}: cannot be read ({said})", "Name a folder of vectors, or encode the corpus again."
    )
