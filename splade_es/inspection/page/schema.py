"""What the page asks and what it is answered; /openapi.json is made of these."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class Question(BaseModel):
    """A search. factors: token of the query -> what its weight is multiplied by; 0 mutes it.

    exact: every token of the query; pruned: its `top_k` strongest; hybrid: exact and BM25, fused by
    reciprocal ranks; bm25: the words alone.
    """

    query: str = Field(max_length=100_000)
    mode: Literal["exact", "pruned", "hybrid", "bm25"] = "exact"
    k: int = Field(10, ge=1, le=100)
    top_k: int = Field(8, ge=1)
    factors: dict[str, Annotated[float, Field(ge=0, le=10)]] = {}


class QueryToken(BaseModel):
    """A token of the query's expansion. weight: as the model gives it; word: what caused it."""

    token: str
    weight: float
    word: str


class TokenScore(BaseModel):
    """What a token adds to a score. new: whether the text, if there is one, does not contain it."""

    token: str
    score: float
    new: bool


class Found(BaseModel):
    """A hit.

    score: of the engine, or of the fusion; contributions: of the search by tokens, the strongest
    first.
    """

    id: str
    score: float
    title: str
    text: str
    contributions: list[TokenScore]


class Answer(BaseModel):
    """engine_ms: time of the engine alone; took_ms: of all, the encoding of the query included."""

    hits: list[Found]
    tokens: list[QueryToken]
    engine_ms: float
    took_ms: float


class Pair(BaseModel):
    """A query and a document."""

    query: str = Field(max_length=100_000)
    id: str


class Part(BaseModel):
    """See `splade_es.inspection.explain.Contribution`."""

    token: str
    score: float
    query_weight: float
    stored: int
    query_word: str
    document_word: str
    start: int
    end: int


class Why(BaseModel):
    """body: title and text, or as much of them as matters; start and end are places in it."""

    id: str
    score: float
    body: str
    contributions: list[Part]
    unmatched: list[str]
    bm25: float | None
    bm25_rank: int | None


class DocumentToken(BaseModel):
    """A token of a document.

    stored: the integer in the index; word: what caused it; new: whether the text lacks it.
    """

    token: str
    stored: int
    word: str
    new: bool


class Problem(BaseModel):
    """What is wrong, and what to do."""

    error: str
    hint: str


class Index(BaseModel):
    """What is searched."""

    index: str
    engine: str
    version: str
    model: str
    documents: int
