"""The further fields of documents as index terms, so that a filter can compare them.

What a corpus has beside title and text may be anything: a list of mixed kinds, a number here and an
object there, a thousand names. A server that maps such fields refuses documents. So they are kept
as they are and not mapped, and one keyword field holds their values: "site=cdc", "meta.year=2020".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Longer names and strings are not compared.
_LONGEST_NAME, _LONGEST_VALUE = 512, 256


def filter_terms(fields: Mapping[str, Any]) -> list[str]:
    """The terms of a document's further fields, each once.

    Every value of a list is one, and names in objects are joined with dots.

    Examples
    --------
    >>> filter_terms({"site": "cdc", "meta": {"tags": ["a", 1.0, None]}})
    ['site=cdc', 'meta.tags=a', 'meta.tags=1']
    """
    terms: dict[str, None] = {}
    left: list[tuple[str, Any]] = [*fields.items()][::-1]
    while left:
        name, value = left.pop()
        if isinstance(value, Mapping):
            left += [(f"{name}.{inner}", of_inner) for inner, of_inner in [*value.items()][::-1]]
        elif isinstance(value, (list, tuple)):
            left += [(name, item) for item in reversed(value)]
        elif term := filter_term(name, value):
            terms[term] = None
    return list(terms)


def filter_term(name: str, value: Any) -> str | None:
    """The term of one value in a field; None for one that is not compared."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, float):
        value = str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    elif isinstance(value, int):
        value = str(value)
    if not isinstance(value, str) or len(value) > _LONGEST_VALUE or len(name) > _LONGEST_NAME:
        return None
    escaped = name.replace("%", "%25").replace("=", "%3D")  # so that the first "=" ends the name
    return f"{escaped}={value}"
