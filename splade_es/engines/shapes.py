"""What an answer must look like before anything is believed of it.

A proxy, a cloud or a fault may answer anything. Whatever reads an answer does so in a block of
`Transport.answer`, which makes one error of all that is wrong with its shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")
#: What reading an answer raises that is not of the servers' shape.
WRONG_SHAPE = (
    LookupError, TypeError, ValueError, AttributeError, StopIteration, OverflowError,
    RecursionError,
)  # fmt: skip


def read_json(data: bytes) -> Any:
    """What an answer says in JSON; None where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def expect(kind: type[_T], value: Any) -> _T:
    """A value of an answer, which must be of this type. Raises TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def expect_as_many(asked: Sequence[Any], results: list[_T]) -> list[_T]:
    """The parts of an answer, one for each that was asked for. Raises ValueError."""
    if len(expect(list, results)) != len(asked):
        raise ValueError(f"{len(results)} results of {len(asked)}")
    return results
