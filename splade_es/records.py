"""The records that flow through the toolkit, one for each stage of the walk.

    line -> Document -> SparseRow -> Quantized -> Action -> ItemResult
    text -> Query    -> SparseRow -> [Clause] -> [Hit]  -> Run

Nothing here imports another module of the package, so everything may import this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

import orjson

from splade_es.fields import COMPANIONS, FIELD

if TYPE_CHECKING:  # numpy costs a tenth of a second that `splade-es --help` need not pay
    import numpy as np
    from numpy.typing import NDArray

#: What an index keeps of the documents it was sent. Without their vectors in `_source` (neither
#: `splade` nor `splade_view`) it is about half the size, and searches are the same; but nothing
#: that writes a document anew from `_source` (an update, a reindex) keeps its vector.
Source: TypeAlias = Literal["full", "no-vectors"]
#: Feature name -> integer weight, as stored in an index.
Features: TypeAlias = dict[str, int]
#: Query id -> document id -> score.
Run: TypeAlias = dict[str, dict[str, float]]
#: Field -> the value, or values, one of which a document must have in it.
Filter: TypeAlias = Mapping[str, "str | int | float | bool | Sequence[str | int | float | bool]"]
#: Query id -> document id -> grade of relevance (0 = judged, not relevant).
Qrels: TypeAlias = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.

    Attributes
    ----------
    id : str
        1 to 512 bytes of UTF-8.
    text : str
        The text.
    title : str
        Encoded before the text, and searched by BM25 as well.
    fields : mapping
        Further fields, stored as they are.
    place : str
        Where it was read: "corpus.jsonl:7".
    number : int
        Of the line in its corpus, bad lines counted, from 1.

    Examples
    --------
    >>> Document("d1", "The heart pumps.", title="Anatomy").body
    'Anatomy The heart pumps.'
    """

    id: str
    text: str
    title: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""
    number: int = field(default=0, compare=False)

    @property
    def body(self) -> str:
        """What is encoded and what BM25 searches: title and text, joined as BEIR does."""
        return f"{self.title} {self.text}" if self.title else self.text

    @classmethod
    def from_source(cls, id: str, source: Mapping[str, Any]) -> Document:
        """A document as an index stores it, without what splade-es adds.

        source: its fields but the vector.
        """
        title, text = (str(source.get(name) or "") for name in ("title", "text"))
        own = ("title", "text", *COMPANIONS)
        others = {name: value for name, value in source.items() if name not in own}
        return cls(id, text, title, others)

    def to_source(self) -> dict[str, Any]:
        """The stored fields of a document, without what splade-es adds."""
        title = {"title": self.title} if self.title else {}
        return {**title, "text": self.text, **self.fields}

    def to_json(self) -> str:
        """The line of a corpus from which this document is read."""
        record = {"_id": self.id, "title": self.title, "text": self.text, **self.fields}
        return json.dumps(record, ensure_ascii=False)

    def content_hash(self, settings: str) -> str:
        """128 bits as hex digits, equal for equal title, text and fields.

        settings: what else the vector depends on, beside what the index remembers.
        """
        content = [self.title, self.text, dict(self.fields), settings]
        try:
            encoded = orjson.dumps(content)
        except TypeError:  # integers of more than 64 bits, deep objects
            encoded = json.dumps(content, ensure_ascii=False).encode()
        return hashlib.blake2b(encoded, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input line that cannot become a document, with the reason and the line itself."""

    place: str
    reason: str
    line: str


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a test collection: its id and its text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class SparseRow:
    """The non-zero part of one SPLADE vector, by ascending vocabulary id.

    Attributes
    ----------
    ids : int32 [n]
        Vocabulary ids.
    weights : float32 [n]
        Weights, all finite and above 0.
    sources : int32 [n] or None
        For each id the position of the input token that caused it: the one with the largest logit.
        None unless asked for. `TextEncoder.token_spans` gives the characters of each position.
    truncated : bool
        Whether the text was longer than the encoder reads, and was cut.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    sources: NDArray[np.int32] | None = None
    truncated: bool = False


class Quantized(NamedTuple):
    """One document vector as stored, by ascending vocabulary id.

    ids: int32 [n]; values: int32 [n], each in 1..512; saturated: how many were larger and were
    clipped; truncated: whether the text was longer than the encoder reads, and was cut.
    """

    ids: NDArray[np.int32]
    values: NDArray[np.int32]
    saturated: int
    truncated: bool = False


class Encoded(NamedTuple):
    """A document with its vector as stored."""

    document: Document
    vector: Quantized


#: What a source yields: documents and bad lines, or documents with their vectors.
Item = TypeVar("Item", Document | Rejected, Encoded)


def document_of(item: Document | Rejected | Encoded) -> Document | Rejected:
    """The document of an item, with or without its vector, or the reject it is."""
    return item.document if isinstance(item, Encoded) else item


def id_hash(id: str) -> int:
    """64 bits of a document id, evenly spread."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little")


class Clause(NamedTuple):
    """One weighted term of a rewritten query: stored integer x boost adds to the score."""

    feature: str
    boost: float


class Hit(NamedTuple):
    """One search result.

    Attributes
    ----------
    id : str
        Of the document.
    score : float
        The sum of the contributions; in other modes than "splade", that of BM25 or of the fusion.
    source : mapping
        The stored fields, without the vector. `text` is what was encoded, also where a backfill
        took it from other fields. A hit that only BM25 found is without
        the fields that splade-es adds.
    contributions : mapping of str to float
        Feature of the query -> what it adds to the score; empty unless asked for.
    """

    id: str
    score: float
    source: Mapping[str, Any]
    contributions: Mapping[str, float] = MappingProxyType({})


class ScoredId(NamedTuple):
    """One search result of a batch, where only the id and the score are fetched."""

    id: str
    score: float


class Version(NamedTuple):
    """A state of a document: `_seq_no`, `_primary_term`, and its routing, if not by id."""

    seq_no: int
    primary_term: int
    routing: str | None = None


class Stored(NamedTuple):
    """A document as an index has it.

    source: the fields that were asked for; hash: its content hash, if it has features.
    """

    id: str
    version: Version
    source: Mapping[str, Any]
    hash: str | None


class Action(NamedTuple):
    """One item of a bulk request: index a document, update it, or delete it.

    A document is JSON from here on, so that it is written as such only once.

    Attributes
    ----------
    id : str
        Of the document.
    fields : bytes or None
        Its stored fields without the vector: an object, in one line. None to delete it.
    features : bytes
        Its vector: an object of feature and integer, see `Features`.
    version : Version or None
        If given, it is an update: if the document is still in that state, set these fields, and
        let the others stay.
    features_field : str
        Name of the field that holds the vector.
    """

    id: str
    fields: bytes | None
    features: bytes = b"{}"
    version: Version | None = None
    features_field: str = FIELD


class ItemResult(NamedTuple):
    """What became of one Action, in the terms of the bulk API's per-item status.

    status: 200 replaced, updated or deleted; 201 created; 404 nothing to delete; 409 no longer in
    that state; any other HTTP status from 400 on is an error.
    """

    status: int
    reason: str = ""


class IndexStats(NamedTuple):
    """Size of an index.

    Attributes
    ----------
    documents : int
        Visible documents.
    bytes : int
        On disk, primary shards only.
    field_type : str
        Type of the field that holds the vectors.
    parts : dict of str to int
        Part of the index -> bytes, the largest first; empty where the engine does not report it.
    """

    documents: int
    bytes: int
    field_type: str
    parts: dict[str, int]
