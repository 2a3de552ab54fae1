"""Documents with their vectors as items of a bulk request: arrays in, bytes out.

A loader often shares the processor with the server. So the hundreds of terms of each document are
handled as arrays, those of many documents at once, and become JSON of parts that were made
beforehand, a few for each token of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from splade_es.engines.transport import to_json
from splade_es.features import feature_names, surface
from splade_es.fields import (
    COUNT_FIELD,
    FIELDS_FIELD,
    HASH_FIELD,
    MAX_FIELD,
    MODEL_FIELD,
    NEW_FIELD,
    TIME_FIELD,
    TOP_FIELD,
    VIEW_FIELD,
)
from splade_es.filter_terms import filter_terms
from splade_es.indexing.new_tokens import NewTokens
from splade_es.limits import MAX_WEIGHT
from splade_es.records import Action, Encoded, Quantized

# Tokens of a document that can be aggregated.
_TOP = 20
# Documents whose vectors are handled at once: their arrays stay in the cache of the processor.
_BATCH = 64
_TOP_TOKENS, _NEW, _VIEW, _COUNT, _MAX, _MODEL, _TIME, _HASH = (
    b'"%b"' % name.encode()
    for name in (
        TOP_FIELD, NEW_FIELD, VIEW_FIELD, COUNT_FIELD, MAX_FIELD, MODEL_FIELD, TIME_FIELD,
        HASH_FIELD,
    )
)  # fmt: skip

_Parts: TypeAlias = NDArray[np.object_]  # of bytes


class ActionBuilder:
    """Makes the bulk actions of documents: their fields, features, and the companions of these.

    vocabulary: token of each id; settings: see `Document.content_hash`; model: its name, which each
    document shows. The companion fields exist because neither Kibana nor OpenSearch Dashboards can
    chart or aggregate a sparse vector. Raises ModelError for an unfit vocabulary.
    """

    def __init__(self, vocabulary: list[str], settings: str, model: str) -> None:
        names = _escaped(feature_names(vocabulary))
        tokens = _escaped(vocabulary)
        self._settings = settings
        self._model = to_json(model)
        self._new = NewTokens([*map(surface, vocabulary)])
        self._tokens = [b'"%b"' % token for token in tokens]
        # of a token, the key in the object of features and what is read in the view; of an integer,
        # its digits
        self._keys = _parts([b',"%b":' % name for name in names])
        self._labels = _parts([b" %b:" % token for token in tokens])
        self._digits = _parts([b"%d" % n for n in range(MAX_WEIGHT + 1)])

    def build(
        self, items: Sequence[Encoded], fields: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Action], list[str]]:
        """The actions that index documents, and the content hash of each document.

        fields: of each, what is stored beside what is made of its vector.
        """
        time = datetime.now(timezone.utc).isoformat(timespec="seconds").encode()
        hashes = [document.content_hash(self._settings) for document, _ in items]
        actions: list[Action] = []
        for start in range(0, len(items), _BATCH):
            batch = slice(start, start + _BATCH)
            vectors = self._vectors(items[batch])
            for (document, _), others, hash, (features, companions) in zip(
                items[batch], fields[batch], hashes[batch], vectors, strict=True
            ):
                own = to_json(others)
                stored = b"%b%b%b,%b:%b,%b:\"%b\",%b:\"%b\"}" % (
                    own[:-1], b"," if len(own) > 2 else b"", companions,
                    _MODEL, self._model, _TIME, time, _HASH, hash.encode(),
                )  # fmt: skip
                actions.append(Action(document.id, stored, features))
        return actions, hashes

    def _vectors(self, items: Sequence[Encoded]) -> Iterator[tuple[bytes, bytes]]:
        """Of each document its features, and the companions that depend on them."""
        ids, values, ends = _strongest_first([vector for _, vector in items])
        keyed, labelled = [b""] * (2 * ids.size), [b""] * (2 * ids.size)
        keyed[::2], labelled[::2] = self._keys[ids].tolist(), self._labels[ids].tolist()
        keyed[1::2] = labelled[1::2] = self._digits[values].tolist()
        starts = [0, *ends[:-1]]
        new = self._new.of(
            [document.body for document, _ in items],
            [ids[start:end] for start, end in zip(starts, ends, strict=True)],
            _TOP,
        )
        for new_ids, start, end in zip(new, starts, ends, strict=True):
            top, parts = ids[start : min(end, start + _TOP)].tolist(), slice(2 * start, 2 * end)
            companions = b"%b:[%b],%b:[%b],%b:\"%b\",%b:%d,%b:%d" % (
                _TOP_TOKENS, b",".join([self._tokens[id] for id in top]),
                _NEW, b",".join([self._tokens[id] for id in new_ids]),
                _VIEW, b"".join(labelled[parts])[1:],
                _COUNT, end - start,
                _MAX, values[start] if top else 0,
            )  # fmt: skip
            yield b"{%b}" % b"".join(keyed[parts])[1:], companions


class LoadRequest:
    """Documents that are loaded together, see `BulkRequest`.

    items: the documents with their vectors; hashes: their content hashes, once the actions are
    made.
    """

    def __init__(self, items: list[Encoded], size: int, builder: ActionBuilder) -> None:
        self.items = items
        self.size = size
        self.hashes: list[str] = []
        self._builder = builder

    @property
    def ids(self) -> list[str]:
        """See `BulkRequest.ids`."""
        return [document.id for document, _ in self.items]

    def actions(self) -> list[Action]:
        """See `BulkRequest.actions`."""
        fields = []
        for document, _ in self.items:
            others = {**document.fields, "title": document.title, "text": document.text}
            if terms := filter_terms(document.fields):
                others[FIELDS_FIELD] = terms
            fields.append(others)
        actions, self.hashes = self._builder.build(self.items, fields)
        return actions


def _strongest_first(
    vectors: Sequence[Quantized],
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Ids and values of D vectors, one after the other, each by descending value, then by id.

    Returns ids [N], values [N], and where each vector ends in them [D].
    """
    lengths = [len(vector.ids) for vector in vectors]
    keys = np.repeat(np.arange(len(vectors)), lengths)  # [N]; 22 bits, above 10, above 32
    for bits, column in (
        (10, [MAX_WEIGHT - vector.values for vector in vectors]),
        (32, [vector.ids for vector in vectors]),
    ):
        keys <<= bits
        keys |= np.concatenate(column)
    keys.sort()  # as integers, which is faster than any sort by two keys
    ids, values = keys & 0xFFFFFFFF, MAX_WEIGHT - (keys >> 32 & 0x3FF)
    return ids, values, np.cumsum(lengths).tolist()


def _escaped(texts: list[str]) -> list[bytes]:
    """Each text as JSON, without its quotes."""
    # all at once: a quote within a text is escaped, so that only those around it look like this
    return orjson.dumps(texts)[2:-2].split(b'","')


def _parts(parts: list[bytes]) -> _Parts:
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    return array
