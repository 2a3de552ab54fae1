"""A document with its vector as an item of a bulk request.

The hundreds of terms of a document are handled as arrays, not one by one in Python: a loader often
shares the processor with the server.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from splade_es.features import feature_names, surface
from splade_es.fields import (
    COUNT_FIELD,
    FIELD,
    HASH_FIELD,
    MAX_FIELD,
    MODEL_FIELD,
    NEW_FIELD,
    TIME_FIELD,
    TOP_FIELD,
    VIEW_FIELD,
)
from splade_es.records import Action, Document, Quantized

# Tokens of a document that can be aggregated.
_TOP = 20
# From {"heart":12,"valve":9} to heart:12 valve:9, with the quotes and braces left out.
_SPACES = bytes.maketrans(b",", b" ")
_SPLIT = frozenset(',{"}')

_Strings: TypeAlias = NDArray[np.object_]


class ActionBuilder:
    """Makes the bulk action of a document: its source fields, its features and their companions.

    vocabulary: token of each id; settings: see `Document.content_hash`; model: its name, which each
    document shows. The companion fields exist because neither Kibana nor OpenSearch Dashboards can
    chart or aggregate a sparse vector. Raises ModelError for an unfit vocabulary.
    """

    def __init__(self, vocabulary: list[str], settings: str, model: str) -> None:
        self._settings = settings
        self._model = model
        names = feature_names(vocabulary)
        self._names = _strings(names)
        self._tokens = _strings(vocabulary)
        self._surfaces = [surface(token) for token in vocabulary]
        # tokens whose JSON differs from what a person should read
        self._odd = np.array(
            [
                not _SPLIT.isdisjoint(token) or orjson.dumps(name) != f'"{token}"'.encode()
                for name, token in zip(names, vocabulary, strict=True)
            ]
        )

    def build(self, document: Document, row: Quantized) -> Action:
        """The action that indexes a document."""
        order = np.argsort(-row.values, kind="stable")  # the strongest first, then by id
        ids, values = row.ids[order], row.values[order].tolist()
        features = dict(zip(self._names[ids].tolist(), values, strict=True))
        source: dict[str, Any] = {
            **document.fields,
            "title": document.title,
            "text": document.text,
            FIELD: features,
            TOP_FIELD: self._tokens[ids[:_TOP]].tolist(),
            NEW_FIELD: self._new(document, ids),
            VIEW_FIELD: self._view(features, ids),
            COUNT_FIELD: len(values),
            MAX_FIELD: values[0] if values else 0,
            MODEL_FIELD: self._model,
            TIME_FIELD: datetime.now(timezone.utc).isoformat(timespec="seconds"),
            HASH_FIELD: document.content_hash(self._settings),
        }
        return Action(document.id, source)

    def _new(self, document: Document, ids: NDArray[np.int32]) -> list[str]:
        """The strongest tokens that the text does not contain."""
        body = document.body.lower()
        new: list[str] = []
        for id in ids.tolist():
            if self._surfaces[id] not in body:
                new.append(self._tokens[id])
                if len(new) == _TOP:
                    break
        return new

    def _view(self, features: dict[str, int], ids: NDArray[np.int32]) -> str:
        """Tokens with their weights, for people to read."""
        if self._odd[ids].any():
            pairs = zip(self._tokens[ids].tolist(), features.values(), strict=True)
            return " ".join([f"{token}:{value}" for token, value in pairs])
        return orjson.dumps(features).translate(_SPACES, b'{"}').decode()


def _strings(texts: list[str]) -> _Strings:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array
