"""Documents from files: JSON Lines, a JSON array, standard input, or a BEIR directory.

Each line is one JSON object (https://jsonlines.org). A bad line becomes a `Rejected` with reason
and remedy, and reading continues. Only a file that cannot be read at all raises CorpusError, and
one that is no corpus.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from splade_es.data.jsonl import (
    JSON_NAMES,
    MAX_LINE_BYTES,
    find_file,
    parse_object,
    read_lines,
)
from splade_es.data.kinds import as_rejected, only_json_lines
from splade_es.errors import CorpusError
from splade_es.fields import PREFIX
from splade_es.limits import MAX_ID_BYTES
from splade_es.records import Document, Rejected


def read_documents(
    path: str, *, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Document | Rejected]:
    """Read the documents of a file, in order, one line in memory at a time.

    Parameters
    ----------
    path : str
        JSON Lines, or an array of the same objects; plain, or compressed by gzip, bzip2, xz or
        zstd; "-" for standard input; or a directory with corpus.jsonl, the layout of BEIR
        (https://github.com/beir-cellar/beir). The id of a document is the first that exists of the
        fields `_id`, `id` and `docid`; its text is `text` or `contents`; `title` is optional; other
        fields are kept as they are. A file of rejects is read as the lines that were rejected.
    max_line_bytes : int
        Longer lines are rejected.

    Raises
    ------
    CorpusError
        The path does not exist; raised at the call. The file is of another kind; raised when the
        first item is asked for.
    """
    return _documents(_find_corpus(path), max_line_bytes)


def open_corpus(corpus: str) -> tuple[Iterator[Document | Rejected], str | None]:
    """Return the items of a corpus, and the file that is read; None for standard input.

    The first line is read, so that an error is known before an index is touched. Raises
    CorpusError.
    """
    path = _find_corpus(corpus)
    items = _documents(path, MAX_LINE_BYTES)
    first = next(items, None)
    if first is None:
        raise CorpusError(f"{corpus}: no documents in it", "Check the file.")
    return itertools.chain([first], items), None if path == "-" else path


def _find_corpus(path: str) -> str:
    """The file to read. Raises CorpusError if there is none."""
    if os.path.isdir(path):
        corpus = find_file(path, "corpus.jsonl")
        if corpus is None:
            raise CorpusError(
                f"{path}: a directory without corpus.jsonl",
                "Give a JSON Lines file, a directory in BEIR layout, or a folder of vectors.",
            )
        return corpus
    if path != "-" and not os.path.exists(path):
        raise CorpusError(f"{path}: no such file", "Check the path, or use - for standard input.")
    return path


def _documents(path: str, max_line_bytes: int) -> Iterator[Document | Rejected]:
    lines = read_lines(path, max_line_bytes=max_line_bytes, arrays=True)
    for number, (place, line) in enumerate(only_json_lines(path, lines), 1):
        try:
            place, line = as_rejected(place, line)
            yield parse_document(line, place, number, max_line_bytes=max_line_bytes)
        except ValueError as exc:
            yield Rejected(place, str(exc), line.decode(errors="backslashreplace").rstrip("\r\n"))


def parse_document(
    line: bytes, place: str, number: int = 0, *, max_line_bytes: int = MAX_LINE_BYTES
) -> Document:
    """Parse one line. Raises ValueError with reason and remedy for one that is not a document."""
    record = parse_object(line, max_line_bytes=max_line_bytes)
    key: str | None = next((key for key in ("_id", "id", "docid") if key in record), None)
    if key is None:
        raise ValueError('no id; give each line an "_id", "id" or "docid"')
    id = record.pop(key)
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if not isinstance(id, str):
        raise ValueError(f'"{key}" is {JSON_NAMES[type(id)]}; make it a string or an integer')
    if not id:
        raise ValueError(f'"{key}" is empty; give each document an id of its own')
    if (size := len(id.encode())) > MAX_ID_BYTES:
        raise ValueError(f'"{key}" has {size} bytes; shorten it to {MAX_ID_BYTES} or fewer')

    key = next((key for key in ("text", "contents") if key in record), None)
    if key is None:
        raise ValueError('no text; give each line a "text" or "contents"')
    text = record.pop(key)
    if not isinstance(text, str):
        raise ValueError(f'"{key}" is {JSON_NAMES[type(text)]}; make it a string')
    title = record.pop("title", None)
    if title is None:  # absent, or null, as some exports write it
        title = ""
    if not isinstance(title, str):
        raise ValueError(f'"title" is {JSON_NAMES[type(title)]}; make it a string')
    for name in record:
        if name.startswith(PREFIX):
            raise ValueError(
                f'field "{name[:100]}" is reserved; rename what starts with "{PREFIX}"'
            )
    return Document(id, text, title, record, place, number)
