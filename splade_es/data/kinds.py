"""What a text file is, if it is no corpus: told by a look at its first lines."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

from splade_es.data.jsonl import parse_object
from splade_es.errors import CorpusError

# Lines that are looked at, until one is an object.
_LOOK = 10
# How objects begin.
_OBJECT = re.compile(rb'\s*\{\s*["}]')
#: How the lines of a file of rejects begin.
REJECT = re.compile(rb'\s*\{\s*"place"\s*:')
_ACTIONS = {"index", "create", "update", "delete"}


def only_json_lines(path: str, lines: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """The lines as they are. Raises CorpusError, before the first one, if they are no corpus."""
    head: list[tuple[str, bytes]] = []
    for place, line in lines:
        head.append((place, line))
        if _OBJECT.match(line) or len(head) == _LOOK:
            break
    if head:
        name = "stdin" if path == "-" else path
        if not _OBJECT.match(head[-1][1]):
            raise _not_json(name, [line.strip() for _, line in head])
        _check_export(name, head[-1][1])
    yield from itertools.chain(head, lines)


def as_rejected(place: str, line: bytes) -> tuple[str, bytes]:
    """Place and line as they are; of a line of a file of rejects, those of what was rejected.

    Raises ValueError as `parse_object`.
    """
    if REJECT.match(line):
        record = parse_object(line)
        if record.keys() == {"place", "reason", "line"} and all(
            isinstance(value, str) for value in record.values()
        ):
            return record["place"], record["line"].encode()
    return place, line


def _check_export(name: str, line: bytes) -> None:
    """Raise CorpusError for objects that are not documents, but hold them."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return  # a bad line like any other
    [(key, value), *others] = record.items() or [("", None)]
    if key in _ACTIONS and isinstance(value, dict) and not others:
        raise CorpusError(
            f"{name}: requests of the bulk API, with an action before each document",
            f"Convert it: jq -cn 'inputs as $a | input + {{_id: $a[]._id}}' {name}.",
        )
    if isinstance(record.get("_source"), dict):
        raise CorpusError(
            f'{name}: an export of an index, with each document in its "_source"',
            f"Convert it: jq -c '._source + {{_id}}' {name}.",
        )


def _not_json(name: str, lines: list[bytes]) -> CorpusError:
    first = lines[0]
    if first.startswith(b"<"):
        what, hint = "XML or HTML", "Write each document as a JSON object on a line of its own."
    elif first == b"{":
        what, hint = "JSON with an object on several lines", f"Convert it: jq -c . {name}."
    elif all(b"\t" in line for line in lines):
        what, hint = "columns with tabs between them", _ROWS
    elif any(sign in first for sign in (b",", b";")):
        what, hint = "columns with commas between them", _ROWS
    else:
        what, hint = "plain text", "Write each document as a JSON object on a line of its own."
    return CorpusError(f"{name}: {what} instead of JSON Lines", hint)


_ROWS = 'Write each row as a line {"_id": "...", "text": "..."}.'
