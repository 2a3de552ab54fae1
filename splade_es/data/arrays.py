"""The elements of a JSON array, one at a time, in memory that does not grow with the array."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

from splade_es.data.streams import ByteStream
from splade_es.errors import CorpusError

# What matters to where an element ends: within a string, and elsewhere.
_IN_STRING, _ELSEWHERE = re.compile(rb'["\\]'), re.compile(rb'["\[\]{},]')
_CHUNK = 1 << 16


def read_elements(stream: ByteStream, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Read ("path, element 7", its JSON) of the array that a file holds; they are not parsed.

    An element of more than `max_bytes` is cut there. Raises CorpusError if the array does not end,
    or something follows its end.
    """
    numbers = count(1)
    number = 0
    element = bytearray()
    depth = position = 0
    in_string = False
    while chunk := stream.file.read1(_CHUNK):
        start = 0  # of what this chunk has of the element
        while found := (_IN_STRING if in_string else _ELSEWHERE).search(chunk, position):
            position, byte = found.end(), found[0]
            if byte == b"\\":
                position += 1
            elif byte == b'"':
                in_string = not in_string
            elif byte in b"[{":
                depth += 1
                start = position if depth == 1 else start
            elif byte in b"]}" and depth > 1:
                depth -= 1
            elif byte == b"]" or (byte == b"," and depth == 1):
                element += chunk[start : min(found.start(), start + max_bytes - len(element))]
                number = next(numbers)
                stream.place = f"{stream.name}, element {number}"
                if content := bytes(element.strip()):
                    yield stream.place, content
                element.clear()
                start = position
                if byte == b"]":
                    _check_end(stream, chunk[position:])
                    return
        element += chunk[start : start + max_bytes - len(element)]
        position = max(0, position - len(chunk))  # above 0 if an escape is cut in two
    raise CorpusError(
        f"{stream.name}: the JSON array is cut short after element {number}",
        "Copy or download it again.",
    )


def _check_end(stream: ByteStream, rest: bytes) -> None:
    while not rest.strip():
        if not (rest := stream.file.read1(_CHUNK)):
            return
    raise CorpusError(
        f"{stream.place}: something follows the end of the JSON array",
        "Give one array, or one object on each line.",
    )
