"""What a load reads: a corpus to encode, or a folder of vectors. Both look the same to it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from splade_es.data.corpus import open_corpus
from splade_es.data.rejects import Rejects
from splade_es.encoders.base import TextEncoder, make_index_meta
from splade_es.errors import SettingsError
from splade_es.index_meta import IndexMeta
from splade_es.records import Encoded
from splade_es.vectors.encode import encode_documents
from splade_es.vectors.parquet import is_vector_folder, open_vectors, read_vectors
from splade_es.vectors.settings import (
    EncodingSettings,
    check_encoding,
    make_quantizer,
    open_encoder,
)


class DocumentSource(Protocol):
    """Where the documents of a load, and their vectors, come from.

    Attributes
    ----------
    corpus : str
        As the caller named it.
    file : str or None
        The file that is read, beside which a journal belongs; None for standard input.
    settings : str
        What a stored vector depends on beside the model and the scale.
    meta : IndexMeta
        What the index must remember; known once the source is open.
    vocabulary : list of str
        The token of each id of the vectors; known once the source is open.
    """

    corpus: str
    file: str | None
    settings: str
    meta: IndexMeta
    vocabulary: list[str]

    def open(self) -> AbstractContextManager[None]:
        """Load what is needed to read vectors. Raises ModelError."""

    def items(self) -> Iterator[Any]:
        """The items of the corpus in order, each an `Item`; what is left out is not encoded."""

    def encoded(self, items: Iterable[Any], rejects: Rejects) -> Iterator[Encoded]:
        """These items with their vectors, in order. Bad lines go to `rejects`."""


class CorpusSource:
    """A corpus whose documents are encoded as they are loaded.

    Raises, when it is made, CorpusError for a corpus that cannot be read or has no document, and
    SettingsError.
    """

    meta: IndexMeta
    vocabulary: list[str]

    def __init__(
        self, corpus: str, model: str | TextEncoder | None, encoding: EncodingSettings
    ) -> None:
        self._model = check_encoding(model, encoding)
        self._encoding = encoding
        self._quantizer = make_quantizer(encoding)
        self._items, self.file = open_corpus(corpus)
        self.corpus = corpus
        self.settings = self._quantizer.settings

    @contextmanager
    def open(self) -> Iterator[None]:
        with open_encoder(self._model, self._encoding) as encoder:
            self._encoder = encoder
            self.meta = make_index_meta(encoder, self._quantizer.scale)
            self.vocabulary = encoder.vocabulary
            yield

    def items(self) -> Iterator[Any]:
        return self._items

    def encoded(self, items: Iterable[Any], rejects: Rejects) -> Iterator[Encoded]:
        return encode_documents(items, self._encoder, self._quantizer, rejects)


class VectorSource:
    """A folder that `splade_es.encode` wrote. Raises CorpusError for an incomplete one."""

    def __init__(self, corpus: str) -> None:
        self._folder = open_vectors(corpus)
        self.corpus = corpus
        self.file: str | None = corpus
        self.settings = self._folder.settings
        self.meta = self._folder.meta
        self.vocabulary = self._folder.vocabulary

    def open(self) -> AbstractContextManager[None]:
        return nullcontext()

    def items(self) -> Iterator[Any]:
        return read_vectors(self._folder)

    def encoded(self, items: Iterable[Any], rejects: Rejects) -> Iterator[Encoded]:
        return iter(items)


def open_source(
    corpus: str, model: str | TextEncoder | None, encoding: EncodingSettings
) -> DocumentSource:
    """The source that a path stands for. Raises CorpusError and SettingsError."""
    if not is_vector_folder(corpus):
        return CorpusSource(corpus, model, encoding)
    given = ["model"] if model is not None else []
    if given := [*given, *(name for name, value in encoding.items() if value is not None)]:
        raise SettingsError(
            f"{corpus} holds vectors that are encoded already: `{given[0]}` would change nothing"
        )
    return VectorSource(corpus)


def default_journal(file: str | None, index: str) -> str | None:
    """The journal of a load; None for standard input, which cannot be read a second time."""
    if file is None:
        return None
    path = Path(file).resolve()
    folder = path.parent if os.access(path.parent, os.W_OK) else Path()
    return str(folder / f"{path.name}.{index}.journal")
