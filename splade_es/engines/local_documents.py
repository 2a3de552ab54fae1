"""Documents as the local engine stores, validates and filters them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from splade_es.fields import FIELD
from splade_es.filter_terms import filter_term, filter_terms
from splade_es.limits import MAX_ID_BYTES, MAX_WEIGHT
from splade_es.records import Filter

#: Edge knows points by number or UUID only; the real id is in the payload.
POINTS = uuid.UUID("0d6b0d0e-6d0b-5f0c-9a55-2f2c6a1f3f0e")


class StoredVector(NamedTuple):
    """features: name -> integer; payload: the document id, and its fields as JSON."""

    features: Mapping[str, int]
    payload: dict[str, str]


def point_of(id: str) -> uuid.UUID | None:
    """The point of a document id; None if no engine takes this id."""
    try:
        size = len(id.encode("utf-8"))
    except UnicodeEncodeError:
        return None
    return uuid.uuid5(POINTS, id) if 1 <= size <= MAX_ID_BYTES else None


def checked(id: str, fields: bytes, features: bytes) -> StoredVector:
    """A document to store, see `Action`.

    Raises ValueError, with the reason, for one that no engine takes.
    """
    try:
        # As text, because Edge rounds large integers and cannot read deep objects back.
        stored = fields.decode("utf-8")
        if "NaN" in stored or "Infinity" in stored:  # as a number or in a string
            json.dumps(json.loads(stored), allow_nan=False)
    except ValueError as exc:
        raise ValueError(f"the document cannot be written as JSON: {exc}") from exc
    return StoredVector(_checked_features(features), {"id": id, "source": stored})


def _checked_features(features: bytes) -> dict[str, int]:
    found: Any
    try:
        found = orjson.loads(features)
    except orjson.JSONDecodeError:  # infinity, say
        found = json.loads(features)
    if not isinstance(found, dict):
        raise ValueError(f"{FIELD} is not an object of features and weights")
    values = found.values()
    integers = {*map(type, values)} <= {int}
    if not integers or min(values, default=1) < 1 or max(values, default=1) > MAX_WEIGHT:
        for name, value in json.loads(features).items():  # orjson rounds large integers
            if type(value) is not int or not 1 <= value <= MAX_WEIGHT:
                raise ValueError(
                    f"the weight of the feature {name!r} is {value!r}, "
                    f"not an integer in 1 to {MAX_WEIGHT}"
                )
    return found


def passes(source: Mapping[str, Any], filter: Filter) -> bool:
    """Whether a document has one of the wanted values in each field, as the servers compare."""
    terms = {*filter_terms(source)}
    for name, wanted in filter.items():
        values = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        if not any(filter_term(name, value) in terms for value in values):
            return False
    return True
