"""A document with its vector as an item of a bulk request."""

from __future__ import annotations

import numpy as np

from splade_es.engines.base import FIELD
from splade_es.features import feature_names
from splade_es.records import Action, Document, Quantized

# Tokens of a document that can be aggregated.
_TOP = 20


class ToAction:
    """Makes the bulk action of a document: its source fields, its features and their companions.

    vocabulary: token of each id; settings: see `Document.content_hash`. The companions are there
    because neither Kibana nor OpenSearch Dashboards can show or aggregate a sparse vector. Raises
    ModelError for an unfit vocabulary.
    """

    def __init__(self, vocabulary: list[str], settings: str = "") -> None:
        self._settings = settings
        self._tokens = vocabulary
        self._names = feature_names(vocabulary)
        self._surfaces = [_surface(token) for token in vocabulary]

    def __call__(self, document: Document, row: Quantized) -> Action:
        order = np.argsort(-row.values, kind="stable")  # the strongest first, then by id
        ids, values = row.ids[order].tolist(), row.values[order].tolist()
        tokens = [self._tokens[id] for id in ids]
        body = document.body.lower()
        new: list[str] = []
        for id, token in zip(ids, tokens, strict=True):
            if self._surfaces[id] not in body:
                new.append(token)
                if len(new) == _TOP:
                    break
        return Action(
            document.id,
            {
                **document.fields,
                "title": document.title,
                "text": document.text,
                FIELD: {self._names[id]: value for id, value in zip(ids, values, strict=True)},
                "splade_top": tokens[:_TOP],
                "splade_new": new,
                "splade_view": " ".join(
                    [f"{token}:{value}" for token, value in zip(tokens, values, strict=True)]
                ),
                "splade_n": len(ids),
                "splade_max": values[0] if values else 0,
                "splade_hash": document.content_hash(self._settings),
            },
        )


def _surface(token: str) -> str:
    """The letters of a token, without the marks that WordPiece, BPE and SentencePiece add."""
    return token.removeprefix("##").lstrip("Ġ▁").lower()
