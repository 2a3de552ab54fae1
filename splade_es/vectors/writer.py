"""Writing a folder of vectors, in parts, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from splade_es.data.files import atomic_file, lock
from splade_es.encoders.base import Precision
from splade_es.errors import CorpusError
from splade_es.index_meta import IndexMeta
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded, Rejected
from splade_es.vectors.parquet import (
    META,
    VOCABULARY,
    count_documents,
    folder_key,
    import_pyarrow,
    is_vector_folder,
    list_parts,
    read_json,
    read_part,
    write_part,
)

#: Documents of a part: so many are held in memory, and encoded again after a kill -9.
PART_DOCUMENTS = 2048

# A file whose lock is that of the folder; it stays there, empty.
_LOCK = ".lock"
_ANOTHER_CORPUS = "Resume with the corpus it was begun with, or choose another `output`."


class VectorWriter:
    """Writes encoded documents into a new folder, or with `resume` into one that was begun.

    Parameters
    ----------
    path : str or Path
        The folder.
    vocabulary : list of str
        The token of each id.
    meta : IndexMeta
        How the vectors are made.
    quantizer : Quantizer
        Its settings are recorded.
    precision : Precision
        Of the encoder; recorded, so that vectors of another precision are not mixed in.
    resume : bool
        Continue a folder that was begun.
    part_documents : int
        Documents of one part.

    Raises
    ------
    CorpusError
        The folder exists and is not to be resumed, was begun with another model or other settings,
        cannot be written, or another process writes it; or pyarrow is not installed.

    Notes
    -----
    Close it at the end: until then no other writer can open the folder.
    """

    def __init__(
        self,
        path: str | Path,
        vocabulary: list[str],
        meta: IndexMeta,
        quantizer: Quantizer,
        precision: Precision,
        *,
        resume: bool = False,
        part_documents: int = PART_DOCUMENTS,
    ) -> None:
        self._folder = Path(path)
        self._settings = {
            **meta.to_dict(),
            "top_k": quantizer.top_k,
            "threshold": quantizer.threshold,
            "precision": precision,
        }
        check_output(self._folder, resume)
        self._lock = _open_lock(self._folder)
        try:
            check_output(self._folder, resume)  # another process may just have written it
            if is_vector_folder(self._folder):
                self._check_settings()
            else:
                self._begin(vocabulary)
        except BaseException:
            self._lock.close()
            raise
        self._key = folder_key(self._settings)
        self._number = len(list_parts(self._folder))
        self._part: list[Encoded] = []
        self._part_documents = part_documents
        self._marked_incomplete = False

    def remaining(self, items: Iterable[Document | Rejected]) -> Iterator[Document | Rejected]:
        """Yield the items that are not in the folder yet, and all rejects.

        Raises CorpusError if the folder was begun with another corpus.
        """
        known = _known_documents(self._folder, self._key)
        for item in items:
            if isinstance(item, Document) and (old := next(known, None)) is not None:
                self._check_same(item, *old)
            else:
                yield item
        if (old := next(known, None)) is not None:
            raise CorpusError(
                f"The corpus ends where {self._folder} continues with {old[0]!r}", _ANOTHER_CORPUS
            )

    def add(self, item: Encoded) -> None:
        """Take a document. It is on the disk once its part is full."""
        self._part.append(item)
        if len(self._part) == self._part_documents:
            self.flush()

    def flush(self) -> None:
        """Write the documents that were added, as a part that need not be full."""
        if not self._part:
            return
        if not self._marked_incomplete:
            self._write_meta(None)
            self._marked_incomplete = True
        write_part(self._folder, self._number, self._part, self._key)
        self._number += 1
        self._part = []

    def finish(self) -> int:
        """Record that the folder is complete. Returns the number of its documents."""
        self.flush()
        documents = count_documents(self._folder)
        self._write_meta(documents)
        return documents

    def close(self) -> None:
        """Let others write the folder. Safe to call twice."""
        self._lock.close()

    def _begin(self, vocabulary: list[str]) -> None:
        with atomic_file(self._folder / VOCABULARY, CorpusError) as file:
            json.dump(vocabulary, file, ensure_ascii=False)
        self._write_meta(None)

    def _check_settings(self) -> None:
        stored = read_json(self._folder / META)
        if not isinstance(stored, dict):
            raise CorpusError(
                f"{self._folder / META}: not written by splade-es", "Choose another `output`."
            )
        for name, value in self._settings.items():
            # the directory of the model, and the version of the toolkit, may differ
            if name not in ("model", "toolkit") and stored.get(name) != value:
                what = "model" if name in ("fingerprint", "vocabulary") else name
                raise CorpusError(
                    f"{self._folder}: begun with another {what}",
                    "Resume with the same model and settings, or choose another `output`.",
                )

    def _check_same(self, document: Document, id: str, title: str, text: str) -> None:
        if document.id != id:
            raise CorpusError(
                f"{document.place}: {document.id!r}, where {self._folder} continues with {id!r}",
                _ANOTHER_CORPUS,
            )
        if (document.title, document.text) != (title, text):
            raise CorpusError(
                f"{document.place}: {id!r} has another text than in {self._folder}",
                _ANOTHER_CORPUS,
            )

    def _write_meta(self, documents: int | None) -> None:
        content: dict[str, Any] = {**self._settings, "documents": documents}
        with atomic_file(self._folder / META, CorpusError) as file:
            json.dump(content, file, indent=2)


def check_output(folder: Path, resume: bool) -> None:
    """Check that vectors can be written into a folder, as far as that is known without a model.

    Raises CorpusError if it has vectors and is not to be resumed, or has other files; and if
    pyarrow is not installed.
    """
    import_pyarrow()
    if is_vector_folder(folder):
        if not resume:
            raise CorpusError(
                f"{folder}: already contains vectors",
                "Continue with `resume`, or choose another `output`.",
            )
        return
    try:
        if folder.exists() and any(path.name != _LOCK for path in folder.iterdir()):
            raise CorpusError(
                f"{folder}: contains something other than vectors", "Choose another `output`."
            )
    except OSError as error:
        raise _not_created(folder, error) from error


def _open_lock(folder: Path) -> BinaryIO:
    """Make the folder and lock it. Raises CorpusError if another process has."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / _LOCK, "ab")  # noqa: SIM115 - the writer closes it
        if lock(file):
            return file
        file.close()
    except OSError as error:
        raise _not_created(folder, error) from error
    raise CorpusError(
        f"{folder}: another process is writing vectors into it",
        "Wait until it ends, or choose another `output`.",
    )


def _not_created(folder: Path, error: OSError) -> CorpusError:
    return CorpusError(
        f"{folder}: cannot be created ({error.strerror})", "Choose another `output`."
    )


def _known_documents(folder: Path, key: str) -> Iterator[tuple[str, str, str]]:
    """Yield id, title and text of each document that the folder has."""
    for path in list_parts(folder):
        columns = read_part(path, key, ["id", "title", "text"])
        yield from zip(*(column.to_pylist() for column in columns.values()), strict=True)
