"""Documents into vectors, and vectors into a folder: encoded once, they are indexed often.

    vectors/meta.json            what an index must remember, how they were encoded, how many
    vectors/vocabulary.json      the token of each id
    vectors/part-00000.parquet   id, title, text, fields (as JSON), indices, values; and so on

A part is written whole or not at all, in the order of the corpus, so that what was interrupted goes
on after the last one. Parquet needs pyarrow, an extra.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from splade_es.data.files import atomic_file
from splade_es.encoders.base import Precision
from splade_es.errors import CorpusError
from splade_es.index_meta import IndexMeta
from splade_es.quantize import Quantizer
from splade_es.records import (
    Document,
    Encoded,
    Quantized,
    Rejected,
)

_META, _VOCABULARY = "meta.json", "vocabulary.json"
# Documents of a part: what is encoded again after a kill -9, and what is held in memory.
_PART_DOCUMENTS = 2048


class VectorFolder(NamedTuple):
    """A folder of vectors. meta and vocabulary: of the model; settings: of the quantizer;
    documents: how many there are, None while encoding has not ended."""

    path: Path
    meta: IndexMeta
    settings: str
    vocabulary: list[str]
    documents: int | None


def is_vector_folder(path: str) -> bool:
    return os.path.isfile(os.path.join(path, _META)) and os.path.isfile(
        os.path.join(path, _VOCABULARY)
    )


def open_vectors(path: str) -> VectorFolder:
    """Raises CorpusError for a folder that cannot be read or is not complete."""
    folder = _open(Path(path))
    if folder.documents is None:
        raise CorpusError(f"{path}: its encoding has not ended", "Continue it with `resume`.")
    found = sum(_length(part) for part in _parts(folder.path))
    if found != folder.documents:
        raise CorpusError(
            f"{path}: {found:,} documents where there were {folder.documents:,}",
            "A part is missing: encode the corpus again.",
        )
    return folder


def read_vectors(folder: VectorFolder) -> Iterator[Encoded]:
    """The documents in the order of the corpus. Raises CorpusError for a damaged part."""
    number = 0
    for path in _parts(folder.path):
        columns = _read_part(path, None)
        lists = columns["indices"]
        ends = np.asarray(lists.offsets)  # [n + 1]
        ids = np.asarray(lists.values)  # all of the part, one document after the other
        values = np.asarray(columns["values"].values).astype(np.int32)
        texts = zip(
            *(columns[name].to_pylist() for name in ("id", "title", "text", "fields")), strict=True
        )
        for n, (id, title, text, fields) in enumerate(texts):
            start, end = ends[n], ends[n + 1]
            number += 1
            further = json.loads(fields) if fields != "{}" else {}
            yield Encoded(
                Document(id, text, title, further, f"{path}:{n + 1}", number),
                Quantized(ids[start:end], values[start:end], 0),
            )


class VectorWriter:
    """Writes encoded documents into a new folder, or with `resume` into one that was begun.

    precision: that of the encoder, recorded so that no other is mixed with it; part_documents: of
    one part. Raises CorpusError if the folder exists and is not to be resumed, if it was begun with
    another model, setting or corpus, or if it cannot be written.
    """

    def __init__(
        self,
        path: str,
        vocabulary: list[str],
        meta: IndexMeta,
        quantizer: Quantizer,
        precision: Precision,
        *,
        resume: bool = False,
        part_documents: int = _PART_DOCUMENTS,
    ) -> None:
        _pyarrow()
        self._folder = Path(path)
        self._settings = {
            **meta.to_dict(),
            "top_k": quantizer.top_k,
            "threshold": quantizer.threshold,
            "precision": precision,
        }
        _begin(self._folder, self._settings, vocabulary, resume)
        self._number = len(_parts(self._folder))
        self._part: list[Encoded] = []
        self._part_documents = part_documents
        self._complete = True  # as far as anyone knows

    def remaining(self, items: Iterable[Document | Rejected]) -> Iterator[Document | Rejected]:
        """The items that are not in the folder yet; rejects, which cost nothing, all come again."""
        return _unknown(items, _known(self._folder), self._folder)

    def add(self, item: Encoded) -> None:
        """Take a document; it is on the disk once its part is full."""
        self._part.append(item)
        if len(self._part) == self._part_documents:
            self.flush()

    def flush(self) -> None:
        """Write what has been taken, so that an interrupt loses nothing."""
        if not self._part:
            return
        if self._complete:
            _write_meta(self._folder, self._settings, None)
            self._complete = False
        _write_part(self._folder, self._number, self._part)
        self._number += 1
        self._part = []

    def finish(self) -> int:
        """Record that the folder is complete; the number of its documents."""
        self.flush()
        documents = sum(_length(path) for path in _parts(self._folder))
        _write_meta(self._folder, self._settings, documents)
        return documents


def _begin(folder: Path, settings: dict[str, Any], vocabulary: list[str], resume: bool) -> None:
    if is_vector_folder(str(folder)):
        if not resume:
            raise CorpusError(
                f"{folder}: it holds vectors already",
                "Continue with `resume`, or choose another `output`.",
            )
        stored = _read_json(folder / _META)
        for name, value in settings.items():
            # where the model lies, and the toolkit's version, may differ
            if name not in ("model", "toolkit") and stored.get(name) != value:
                what = "model" if name in ("fingerprint", "vocabulary") else name
                raise CorpusError(
                    f"{folder}: begun with another {what}",
                    "Resume with the same model and settings, or choose another `output`.",
                )
        return
    try:
        if folder.exists() and any(folder.iterdir()):
            raise CorpusError(f"{folder}: there is something else in it", "Choose another folder.")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(
            f"{folder}: cannot be made ({error.strerror})", "Choose another `output`."
        ) from error
    with atomic_file(folder / _VOCABULARY, CorpusError) as file:
        json.dump(vocabulary, file, ensure_ascii=False)
    _write_meta(folder, settings, None)


def _unknown(
    items: Iterable[Document | Rejected], known: Iterator[tuple[str, str, str]], folder: Path
) -> Iterator[Document | Rejected]:
    """What is not yet in the folder; rejects, which cost nothing, all come again."""
    for item in items:
        if isinstance(item, Document) and (old := next(known, None)) is not None:
            if old[0] != item.id:
                raise CorpusError(
                    f"{item.place}: {item.id!r}, where {folder} goes on with {old[0]!r}",
                    "Resume with the corpus it was begun with, or choose another `output`.",
                )
            if old[1:] != (item.title, item.text):
                raise CorpusError(
                    f"{item.place}: {item.id!r} has another text than in {folder}",
                    "Resume with the corpus it was begun with, or choose another `output`.",
                )
        else:
            yield item
    if (old := next(known, None)) is not None:
        raise CorpusError(
            f"The corpus ends where {folder} goes on with {old[0]!r}",
            "Resume with the corpus it was begun with, or choose another `output`.",
        )


def _known(folder: Path) -> Iterator[tuple[str, str, str]]:
    """id, title and text of each document that is there."""
    for path in _parts(folder):
        columns = _read_part(path, ["id", "title", "text"])
        yield from zip(*(column.to_pylist() for column in columns.values()), strict=True)


def _length(part: Path) -> int:
    pa, pq = _pyarrow()
    try:
        return int(pq.read_metadata(part).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(part, error) from error


def _unreadable(path: Path, error: Exception) -> CorpusError:
    return CorpusError(f"{path}: cannot be read ({error})", "Encode the corpus again.")


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _open(path: Path) -> VectorFolder:
    meta, vocabulary = _read_json(path / _META), _read_json(path / _VOCABULARY)
    try:
        names = IndexMeta.__dataclass_fields__
        return VectorFolder(
            path,
            IndexMeta(**{name: meta[name] for name in names}),
            Quantizer(meta["scale"], meta["top_k"], meta["threshold"]).settings,
            [str(token) for token in vocabulary],
            meta["documents"],
        )
    except (KeyError, TypeError) as error:
        raise CorpusError(
            f"{path}/{_META}: not what splade-es encode writes ({error})",
            "Encode the corpus again.",
        ) from error


def _write_meta(folder: Path, settings: dict[str, Any], documents: int | None) -> None:
    with atomic_file(folder / _META, CorpusError) as file:
        json.dump({**settings, "documents": documents}, file, indent=2)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{path}: cannot be read ({error})", "Encode the corpus again."
        ) from error


def _read_part(path: Path, columns: list[str] | None) -> dict[str, Any]:
    pa, pq = _pyarrow()
    try:
        table = pq.read_table(path, columns=columns)
        return {name: table[name].combine_chunks() for name in table.column_names}
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(
            f"{path}: cannot be read ({error})", "Encode the corpus again."
        ) from error


def _write_part(folder: Path, number: int, part: list[Encoded]) -> None:
    pa, pq = _pyarrow()
    documents = [item.document for item in part]
    vectors = [item.vector for item in part]
    ends = pa.array(np.cumsum([0, *(len(v.ids) for v in vectors)]).astype(np.int32))
    table = pa.table(
        {
            "id": [d.id for d in documents],
            "title": [d.title for d in documents],
            "text": [d.text for d in documents],
            "fields": [json.dumps(dict(d.fields), ensure_ascii=False) for d in documents],
            "indices": pa.ListArray.from_arrays(ends, np.concatenate([v.ids for v in vectors])),
            "values": pa.ListArray.from_arrays(
                ends, np.concatenate([v.values for v in vectors]).astype(np.int16)
            ),
        }
    )
    path = folder / f"part-{number:05}.parquet"
    with atomic_file(path, CorpusError, "wb") as file:
        pq.write_table(table, file, compression="zstd")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise CorpusError(
            "Vectors are kept in Parquet files, which need pyarrow",
            "Install it: pip install 'splade-es[parquet]'",
        ) from error
    return pa, pq
