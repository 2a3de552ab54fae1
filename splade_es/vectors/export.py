"""Vectors for other engines: a folder of vectors in the formats that they read."""

from __future__ import annotations

import io
import itertools
import json
import struct
import zipfile
from collections.abc import Callable, Generator
from typing import IO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from splade_es.data.files import atomic_file, check_not_input
from splade_es.errors import CorpusError
from splade_es.progress import ExportProgress
from splade_es.records import Encoded
from splade_es.vectors.parquet import VectorFolder, open_vectors, read_vectors
from splade_es.version import __version__

Format: TypeAlias = Literal["anserini", "jsonl", "ciff", "npz"]


def export_folder(vectors: str, format: Format, path: str) -> Generator[ExportProgress, None, None]:
    """Write a folder of vectors to one file. See `splade_es.export`.

    ciff inverts the vectors in memory, which takes 20 bytes for each term of a document. Raises, at
    the call, CorpusError for a folder that cannot be read, and
    SettingsError for a path that is a file of it.
    """
    folder = open_vectors(vectors)
    check_not_input("output", path, vectors)
    return _write(folder, format, path)


def _write(
    folder: VectorFolder, format: Format, path: str
) -> Generator[ExportProgress, None, None]:
    total = folder.documents or 0
    number = 0
    if format in ("anserini", "jsonl"):
        anserini = format == "anserini"
        to_line = _anserini(folder.vocabulary) if anserini else _jsonl(folder.meta.scale)
        with atomic_file(path, CorpusError) as file:
            for number, item in enumerate(read_vectors(folder), start=1):
                file.write(json.dumps(to_line(item), ensure_ascii=False) + "\n")
                yield ExportProgress(number, total)
    else:
        rows = _Rows()
        for number, item in enumerate(read_vectors(folder), start=1):
            rows.add(item)
            yield ExportProgress(number, total)
        write = _write_ciff if format == "ciff" else _write_npz
        with atomic_file(path, CorpusError, "wb") as file:
            write(rows, folder.vocabulary, file)
    yield ExportProgress(number, total)


def _anserini(vocabulary: list[str]) -> Callable[[Encoded], dict[str, object]]:
    def to_line(item: Encoded) -> dict[str, object]:
        weights = zip(item.vector.ids.tolist(), item.vector.values.tolist(), strict=True)
        return {
            "id": item.document.id,
            "contents": item.document.body,
            "vector": {vocabulary[id]: value for id, value in weights},
        }

    return to_line


def _jsonl(scale: float) -> Callable[[Encoded], dict[str, object]]:
    def to_line(item: Encoded) -> dict[str, object]:
        return {
            "_id": item.document.id,
            "indices": item.vector.ids.tolist(),
            "values": [value / scale for value in item.vector.values.tolist()],
        }

    return to_line


class _Rows:
    """The vectors of all D documents as one sparse matrix by rows (CSR), with N entries."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._columns: list[NDArray[np.int32]] = []
        self._values: list[NDArray[np.int16]] = []

    def add(self, item: Encoded) -> None:
        self.ids.append(item.document.id)
        self._columns.append(item.vector.ids.copy())  # not a view of its whole part
        self._values.append(item.vector.values.astype(np.int16))

    @property
    def ends(self) -> NDArray[np.int64]:
        """[D + 1]: where the terms of each document begin, and where those of the last one end."""
        return np.cumsum([0, *map(len, self._columns)], dtype=np.int64)

    @property
    def columns(self) -> NDArray[np.int32]:
        """[N]: vocabulary ids."""
        return np.concatenate([np.empty(0, np.int32), *self._columns])

    @property
    def values(self) -> NDArray[np.int16]:
        """[N]: stored integers."""
        return np.concatenate([np.empty(0, np.int16), *self._values])


def _write_npz(rows: _Rows, vocabulary: list[str], file: IO[bytes]) -> None:
    """What `scipy.sparse.load_npz` reads, with the names of rows and columns as further arrays."""
    from scipy import sparse

    shape = len(rows.ids), len(vocabulary)
    matrix = sparse.csr_matrix((rows.values.astype(np.int32), rows.columns, rows.ends), shape)
    written = io.BytesIO()  # `file` cannot be read, as adding to an archive needs
    sparse.save_npz(written, matrix)
    with zipfile.ZipFile(written, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, strings in (("ids", rows.ids), ("vocabulary", vocabulary)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.save(member, np.array(strings))
    file.write(written.getbuffer())


def _write_ciff(rows: _Rows, vocabulary: list[str], file: IO[bytes]) -> None:
    """The Common Index File Format, https://github.com/osirrc/ciff.

    A header, a list of postings for each term in the order of the terms, a record for each
    document; each is a protobuf message after its length.
    """
    ends, columns, values = rows.ends, rows.columns, rows.values
    lengths = [int(values[a:b].sum()) for a, b in itertools.pairwise(ends)]
    documents = np.repeat(np.arange(len(rows.ids), dtype=np.int32), np.diff(ends))  # [N]
    order = np.argsort(columns, kind="stable")  # [N], by term, then by document
    starts = np.searchsorted(columns[order], np.arange(len(vocabulary) + 1))  # [V + 1]
    terms = sorted(
        (token.encode(), id) for id, token in enumerate(vocabulary) if starts[id] < starts[id + 1]
    )
    total = sum(lengths)
    _write_message(
        file,
        _integer(1, 1),  # version
        _integer(2, len(terms)),
        _integer(3, len(rows.ids)),
        _integer(4, len(terms)),  # of the whole collection, which this is
        _integer(5, len(rows.ids)),
        _integer(6, total),
        _double(7, total / max(1, len(rows.ids))),
        _bytes(8, f"splade-es {__version__}".encode()),
    )
    for token, id in terms:
        here = order[starts[id] : starts[id + 1]]
        gaps = np.diff(documents[here], prepend=0).tolist()
        weights = values[here].tolist()
        _write_message(
            file,
            _bytes(1, token),
            _integer(2, len(weights)),
            _integer(3, sum(weights)),
            *(
                _bytes(4, _integer(1, gap) + _integer(2, weight))
                for gap, weight in zip(gaps, weights, strict=True)
            ),
        )
    for number, (name, length) in enumerate(zip(rows.ids, lengths, strict=True)):
        _write_message(file, _integer(1, number), _bytes(2, name.encode()), _integer(3, length))


def _write_message(file: IO[bytes], *fields: bytes) -> None:
    message = b"".join(fields)
    file.write(_varint(len(message)) + message)


def _integer(number: int, value: int) -> bytes:
    """A field of a protobuf message; its default value is not written."""
    return _varint(number << 3) + _varint(value) if value else b""


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
