"""A document with its vector as an item of a bulk request.

A document has some hundred terms, so each of them is handled by arrays, not one by one in Python: a
loader on the server's machine takes the processor from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from splade_es.engines.base import FIELD, MAX_WEIGHT
from splade_es.features import feature_names
from splade_es.records import Action, Document, Quantized

# Tokens of a document that can be aggregated.
_TOP = 20

_Strings: TypeAlias = NDArray[np.object_]


# Between the terms of a document, and between a name and its weight, until it is known what for.
_TERM, _WEIGHT = "\x00", "\x01"


class Features(Mapping[str, int]):
    """Feature name -> integer weight, which is written as JSON without ever being a dictionary."""

    def __init__(self, names: list[str], row: Quantized, json: bytes) -> None:
        self.json = json
        self._names = names  # of all ids
        self._row = row

    def __len__(self) -> int:
        return len(self._row.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __getitem__(self, name: str) -> int:
        return self._dict[name]

    @cached_property
    def _dict(self) -> dict[str, int]:
        pairs = zip(self._row.ids.tolist(), self._row.values.tolist(), strict=True)
        return {self._names[id]: value for id, value in pairs}


class ToAction:
    """Makes the bulk action of a document: its source fields, its features and their companions.

    vocabulary: token of each id; settings: see `Document.content_hash`. The companions are there
    because neither Kibana nor OpenSearch Dashboards can show or aggregate a sparse vector. Raises
    ModelError for an unfit vocabulary.
    """

    def __init__(self, vocabulary: list[str], settings: str = "") -> None:
        self._settings = settings
        self._names = feature_names(vocabulary)
        self._tokens = vocabulary
        self._surfaces = [_surface(token) for token in vocabulary]
        written = [json.dumps(name, ensure_ascii=False)[1:-1] for name in self._names]
        self._written = _strings([f"{_TERM}{name}{_WEIGHT}" for name in written])
        self._labels = _strings([f"{_TERM}{token}{_WEIGHT}" for token in vocabulary])
        # those that are written alike as a feature and as a label
        self._plain = self._written == self._labels
        self._digits = _strings([str(value) for value in range(MAX_WEIGHT + 1)])

    def __call__(self, document: Document, row: Quantized) -> Action:
        order = np.argsort(-row.values, kind="stable")  # the strongest first, then by id
        ids, digits = row.ids[order], self._digits[row.values[order]].tolist()
        body = document.body.lower()
        strongest = ids.tolist()
        new: list[str] = []
        for id in strongest:
            if self._surfaces[id] not in body:
                new.append(self._tokens[id])
                if len(new) == _TOP:
                    break
        features = labels = _interleaved(self._written[ids], digits)
        if not self._plain[ids].all():
            labels = _interleaved(self._labels[ids], digits)
        features = features.replace(_TERM, ',"').replace(_WEIGHT, '":')
        source: dict[str, Any] = {
            **document.fields,
            "title": document.title,
            "text": document.text,
            FIELD: Features(self._names, row, f"{{{features[1:]}}}".encode()),
            "splade_top": [self._tokens[id] for id in strongest[:_TOP]],
            "splade_new": new,
            "splade_view": labels.replace(_TERM, " ").replace(_WEIGHT, ":")[1:],
            "splade_n": len(strongest),
            "splade_max": int(digits[0]) if digits else 0,
            "splade_hash": document.content_hash(self._settings),
        }
        return Action(document.id, source)


def _interleaved(names: _Strings, digits: list[str]) -> str:
    parts = [""] * (2 * len(digits))
    parts[::2] = names.tolist()
    parts[1::2] = digits
    return "".join(parts)


def _strings(texts: list[str]) -> _Strings:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _surface(token: str) -> str:
    """The letters of a token, without the marks that WordPiece, BPE and SentencePiece add."""
    return token.removeprefix("##").lstrip("Ġ▁").lower()
