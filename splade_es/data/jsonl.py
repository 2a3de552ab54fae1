"""Lines and JSON objects from files: plain, compressed, or from standard input.

Every reader of the package uses this. JSON Lines (https://jsonlines.org) has one object on a line.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from splade_es.data.arrays import read_elements
from splade_es.data.streams import open_bytes

#: Default `http.max_content_length` of both servers: a longer line cannot be sent.
MAX_LINE_BYTES = 100 * 2**20

#: Type of a parsed JSON value -> its name in messages.
JSON_NAMES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}

_MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8
_SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zst")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def find_file(directory: str, name: str) -> str | None:
    """Return the path of `name` in a directory, compressed or not; None if there is none."""
    paths = (os.path.join(directory, f"{name}{suffix}") for suffix in _SUFFIXES)
    return next(filter(os.path.isfile, paths), None)


def read_lines(
    path: str, *, max_line_bytes: int = MAX_LINE_BYTES, arrays: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Read ("path:line", line) of a file, or of standard input for "-"; blank lines are left out.

    A UTF-8 byte order mark is dropped. A line of more than `max_line_bytes` is cut there. arrays:
    of a file that begins with "[", the elements of this array are read as if each was a line.
    Raises CorpusError if the file is not text, or cannot be read to its end; see `open_bytes`.
    """
    with open_bytes(path) as stream:
        stream.check_text()
        if arrays and stream.file.peek()[:512].removeprefix(_MARK).lstrip()[:1] == b"[":
            yield from read_elements(stream, max_line_bytes)
            return
        for number in itertools.count(1):
            stream.place = f"{stream.name}:{number}"
            line = rest = stream.file.readline(max_line_bytes)
            if not line:
                return
            while rest and not rest.endswith(b"\n"):  # skip the rest of a line too long
                rest = stream.file.readline(max_line_bytes)
            if number == 1:
                line = line.removeprefix(_MARK)
            if not line.isspace():
                yield stream.place, line


def parse_object(line: bytes, *, max_line_bytes: int = MAX_LINE_BYTES) -> dict[str, Any]:
    """Parse one JSON object that can be sent to a server as UTF-8 JSON without loss.

    Raises ValueError with reason and remedy for anything else, also for what a server refuses (NaN,
    lone surrogates) and what a dict would lose (a repeated key). See RFC 8259 and RFC 7493.
    """
    if len(line) >= max_line_bytes:
        raise ValueError(f"longer than {max_line_bytes >> 20} MB; split the document")
    try:
        text = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as exc:
        raise ValueError(
            f"not UTF-8 at byte {exc.start + 1}; convert the file with iconv -t UTF-8"
        ) from exc
    try:
        value = _DECODER.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        at = f"line {exc.lineno}, " if exc.lineno > 1 else ""  # of an element of an array
        raise ValueError(
            f"broken JSON at {at}column {exc.colno}: {exc.msg}; write one object on each line"
        ) from exc
    except UnicodeEncodeError as exc:
        lone = ascii(exc.object[exc.start])[1:-1]
        raise ValueError(f"lone surrogate {lone}; write the pair, or leave it out") from exc
    except RecursionError as exc:
        raise ValueError("nested too deeply; flatten the object") from exc
    if not isinstance(value, dict):
        raise ValueError(f"{JSON_NAMES[type(value)]}, not an object; write one object on each line")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'"{twice[:100]}" is given twice; keep one')
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:100]} is too large a number; write it as a string")
    return value


def _int(digits: str) -> int:
    if len(digits) > 1000:  # int() refuses more than 4,300 digits, with advice for programmers
        raise ValueError(f"a number of {len(digits)} digits; write it as a string")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; use null, or leave the field out")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_float, parse_int=_int, parse_constant=_constant
)
