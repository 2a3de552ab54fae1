"""Lines and JSON objects from files: plain, gzip, or standard input.

Every reader of the package uses this. JSON Lines (https://jsonlines.org) has one object on a line.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NoReturn, cast

from splade_es.errors import CorpusError

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

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def find_file(directory: str, name: str) -> str | None:
    """Return the path of `name` or `name`.gz in a directory; None if neither exists."""
    paths = (os.path.join(directory, name), os.path.join(directory, f"{name}.gz"))
    return next(filter(os.path.isfile, paths), None)


def read_lines(path: str, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[str, bytes]]:
    """Read ("path:line", line) of a plain or gzip file, or of "-"; blank lines are left out.

    Gzip is recognised by its first two bytes (RFC 1952). A UTF-8 byte order mark is dropped. A line
    of more than `max_line_bytes` is cut there. Raises CorpusError if the file cannot be read to its
    end.
    """
    name = "stdin" if path == "-" else path
    place = name
    try:
        with ExitStack() as stack:
            if path == "-":
                # Another reader, which can peek; it is detached, so that stdin stays open.
                file = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
                stack.callback(lambda: None if file.closed else file.detach())
            else:
                file = stack.enter_context(io.BufferedReader(io.FileIO(path)))
            stream: io.BufferedIOBase = file
            if file.peek(2)[:2] == b"\x1f\x8b":
                stream = stack.enter_context(gzip.GzipFile(fileobj=file))
            for number in itertools.count(1):
                place = f"{name}:{number}"
                line = rest = stream.readline(max_line_bytes)
                if not line:
                    return
                while rest and not rest.endswith(b"\n"):  # skip the rest of a line too long
                    rest = stream.readline(max_line_bytes)
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.isspace():
                    yield place, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise CorpusError(
            f"{place}: the gzip file is damaged or cut short ({exc})", "Copy or download it again."
        ) from exc
    except IsADirectoryError as exc:
        raise CorpusError(f"{path}: is a directory", "Give the file in it.") from exc
    except FileNotFoundError as exc:
        raise CorpusError(f"{path}: no such file", "Check the path.") from exc
    except OSError as exc:
        raise CorpusError(
            f"{place}: cannot be read ({exc.strerror or exc})",
            "Check the file and its permissions.",
        ) from exc


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
        raise ValueError(
            f"broken JSON at column {exc.colno}: {exc.msg}; write one object on each line"
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
        raise ValueError(f'"{twice}" is given twice; keep one')
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large a number; write it as a string")
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
