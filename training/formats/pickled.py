"""Scores from a pickle, {query: {document: score}}, without unpickling it.

A pickle is a program: to run one that somebody else wrote means to trust them. So the instructions
are read (with `pickletools` of the standard library), and the few that build dicts, strings and
numbers are followed; any other is refused. Nothing is executed, and the memory holds about a
thousand queries at a time, and all strings once (ids that are integers take none).
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Iterator
from typing import IO, Any, cast

from splade_es.data.streams import open_bytes
from splade_es.errors import CorpusError, TrainingError

#: BINFLOAT, BININT, BININT1 and BININT2: how many bytes follow, and how they are read.
_FAST = {
    b"G": (8, struct.Struct(">d").unpack),
    b"J": (4, struct.Struct("<i").unpack),
    b"K": (1, struct.Struct("<B").unpack),
    b"M": (2, struct.Struct("<H").unpack),
}
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_NUMBERS = {"INT", "LONG", "LONG1", "LONG4", "FLOAT"}
_STRINGS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_MARK = object()
# Bytes of a string or a number, bits of a number, and values that wait for the instruction that
# stores them: Python stores a thousand at a time.
_LONGEST, _BITS, _DEEPEST = 1 << 20, 64, 100_000
#: What a damaged file can raise in pickletools and below.
_DAMAGE = (EOFError, ValueError, IndexError, struct.error, OverflowError, KeyError, TypeError)


def read_scores(path: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Stream (query id, {document id: score}) from a pickle, plain or gzip; ids become strings.

    Raises TrainingError for a pickle with anything else in it, CorpusError for a damaged one.
    """
    with open_bytes(path) as stream:
        try:
            for query, scores in _outer_items(path, stream.file):
                if type(query) not in (str, int) or not _is_scores(scores):
                    raise _refused(path, "holds something else")
                yield str(query), {str(document): score for document, score in scores.items()}
        except _DAMAGE as exc:
            raise CorpusError(
                f"{path}: the pickle is damaged or cut short ({str(exc)[:100]})",
                "Copy or download it again.",
            ) from exc


class _Bounded:
    """A file as pickletools reads it, with a limit: a few packed bytes can stand for any size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if size > _LONGEST:
            raise ValueError(f"a value of {size:,} bytes")
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(_LONGEST)
        if len(line) == _LONGEST:
            raise ValueError(f"a value of more than {_LONGEST:,} bytes")
        return line


def _outer_items(path: str, file: IO[bytes]) -> Iterator[tuple[Any, Any]]:
    """The items of the outermost dict, each as soon as an instruction stores it."""
    stack: list[Any] = []
    memo: dict[int, str] = {}
    memoized = 0
    bounded = cast("IO[bytes]", _Bounded(file))
    made = False  # whether the last instruction made a string or a dict, which may be kept
    outer: dict[Any, Any] | None = None
    while True:
        if len(stack) > _DEEPEST:
            raise ValueError("it stores nothing")
        if not (code := file.read(1)):
            raise EOFError("it is incomplete")
        if code in _FAST:  # nearly all instructions of a file
            size, unpack = _FAST[code]
            stack.extend(unpack(file.read(size)))
            made = False
            continue
        opcode = _OPCODES.get(code.decode("latin-1"))
        if opcode is None:
            raise ValueError(f"there is no instruction {code!r}")
        argument = opcode.arg.reader(bounded) if opcode.arg else None
        name = opcode.name
        was_made, made = made, name in _STRINGS or name in ("EMPTY_DICT", "DICT")
        if name in _NUMBERS or name in _STRINGS:
            stack.append(_checked(argument))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_DICT", "DICT"):
            if name == "DICT" and stack.pop() is not _MARK:  # protocol 0 fills it afterwards
                raise _refused(path, "was not written by Python")
            stack.append({})
            if outer is None:
                outer = stack[-1]
        elif name in _PUTS:
            # dicts are not kept: all of them would stay in memory
            if not was_made:
                raise ValueError("it keeps a value twice")
            if isinstance(stack[-1], str):
                memo[memoized if argument is None else argument] = stack[-1]
            memoized += 1
        elif name in _GETS:
            if argument not in memo:
                raise _refused(path, "holds the same dict twice")
            stack.append(memo[argument])
        elif name in ("SETITEM", "SETITEMS"):
            pairs = _pop_items(stack, name)
            if stack[-1] is outer:
                yield from pairs
            elif isinstance(stack[-1], dict) and all(type(k) in (str, int) for k, _ in pairs):
                stack[-1].update(pairs)
            else:
                raise _refused(path, "holds something else")
        elif name == "STOP":
            if len(stack) != 1 or stack[0] is not outer:
                raise _refused(path, "holds something else")
            return
        elif name not in ("PROTO", "FRAME"):
            raise _refused(path, f"has the instruction {name}")


def _pop_items(stack: list[Any], name: str) -> list[tuple[Any, Any]]:
    """The items that an instruction stores in the dict below them."""
    values = [stack.pop(), stack.pop()] if name == "SETITEM" else []
    while name == "SETITEMS" and (value := stack.pop()) is not _MARK:
        values.append(value)
    if len(values) % 2:
        raise ValueError("a key without a value")
    return [(values[i + 1], values[i]) for i in range(len(values) - 2, -1, -2)]


def _checked(value: Any) -> Any:
    """The value. Raises ValueError for a number or a string that no id or score can be."""
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise ValueError(f"a number of {value.bit_length():,} bits")
    if isinstance(value, str):
        value.encode()  # without lone surrogates
    return value


def _is_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(
        type(score) in (int, float) and math.isfinite(score) for score in value.values()
    )


def _refused(path: str, why: str) -> TrainingError:
    return TrainingError(
        f"{path}: the pickle {why}; only dicts of strings and finite numbers are read",
        "Write it as {query: {document: float(score)}}, with numbers of numpy turned into float.",
    )
