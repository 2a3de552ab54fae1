"""Vocabulary token <-> feature name: what a token is called inside an index.

A feature name is the token itself, except for dots: OpenSearch accepts a dotted name and then never
finds it, Elasticsearch refuses it. So "%" becomes "%25" and "." becomes "%2E", on every engine.
Everything else is kept: without its "##" a word piece would have the name of a whole word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from splade_es.errors import ModelError

#: Version of this escape; an index remembers the one it was made with.
CODEC = 1
#: Lucene's longest term, in bytes of UTF-8.
MAX_FEATURE_BYTES = 32_766


def feature_name(token: str) -> str:
    """Return the feature name of a token.

    >>> feature_name("3.5%")
    '3%2E5%25'
    """
    return token.replace("%", "%25").replace(".", "%2E")


def token_of(feature: str) -> str:
    """Return the token of a feature name: the inverse of `feature_name`."""
    return feature.replace("%2E", ".").replace("%25", "%")


def surface(token: str) -> str:
    """Return the letters of a token, without the marks of WordPiece, BPE and SentencePiece."""
    return token.removeprefix("##").lstrip("Ġ▁").lower()


def feature_names(tokens: Sequence[str]) -> list[str]:
    """Return the feature name of each token of a vocabulary, in id order.

    Raises ModelError for a token that cannot be a feature on every engine: one that is repeated, is
    invalid Unicode, or is longer than MAX_FEATURE_BYTES.
    """
    ids: dict[str, int] = {}
    for id, token in enumerate(tokens):
        name = feature_name(token)
        try:
            size = len(name.encode("utf-8"))
        except UnicodeEncodeError:
            # Lucene replaces what UTF-8 cannot encode, and two such tokens would become one.
            raise _unusable(id, token, "is invalid Unicode") from None
        if size > MAX_FEATURE_BYTES:
            raise _unusable(id, token, f"has {size:,} bytes; the limit is {MAX_FEATURE_BYTES:,}")
        if (first := ids.setdefault(name, id)) != id:
            raise _unusable(id, token, f"is also token {first}")
    return list(ids)


def _unusable(id: int, token: str, what: str) -> ModelError:
    return ModelError(
        f"Token {id} of the vocabulary, {token[:40]!r}, {what}",
        "Repair the tokenizer of this model, or use another model.",
    )


def vocabulary_sha256(tokens: Sequence[str]) -> str:
    """Hash of all tokens in id order, in hexadecimal: models that share it share their features."""
    return hashlib.sha256(json.dumps(list(tokens)).encode("ascii")).hexdigest()
