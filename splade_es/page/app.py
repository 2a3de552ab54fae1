"""The page of one index and its JSON API, which /openapi.json describes.

The page is three files that need no building and no network. What it shows of documents is set as
text, never as HTML, and its policy lets no other script run.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from splade_es import __version__
from splade_es.errors import (
    AccessDenied,
    EngineError,
    IndexMissing,
    QueryError,
    SpladeEsError,
    Unavailable,
)
from splade_es.expand import expand, expansions
from splade_es.explain import explain
from splade_es.features import surface, token_of
from splade_es.fusion import reciprocal_rank_fusion
from splade_es.quantize import Quantizer
from splade_es.queries import TextEncoder
from splade_es.records import Clause, Hit, ScoredId
from splade_es.search import Searcher

# Of each list that a hybrid search fuses.
_FUSED = 100
# Characters of a text, unless more of them matter.
_SHOWN = 2000
_POLICY = (
    "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


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
    """What a token adds to a score."""

    token: str
    score: float


class Found(BaseModel):
    """A hit. score: the engine's, or that of the fusion; contributions: the strongest first, those
    of the search by tokens."""

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


class Part(BaseModel):
    """See `splade_es.explain.Contribution`."""

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
    """A token of a document, as the model makes it of the text. stored: the integer of the index;
    new: whether the text does not contain it."""

    token: str
    stored: int
    word: str
    new: bool


class Index(BaseModel):
    """What is searched."""

    index: str
    engine: str
    version: str
    model: str
    documents: int


def make_app(searcher: Searcher, documents: TextEncoder, hosts: list[str]) -> FastAPI:
    """The page and its API. documents: the document side of the searcher's model; hosts: names by
    which it may be asked, so that no other site's page can reach it by a name of its own."""
    app = FastAPI(
        title="splade-es", version=__version__, docs_url=None, redoc_url=None,
        description="How an index answers queries, and why.",
    )  # fmt: skip
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)

    @app.middleware("http")
    async def add_policy(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["content-security-policy"] = _POLICY
        response.headers["x-content-type-options"] = "nosniff"
        return response

    @app.exception_handler(SpladeEsError)
    def tell(request: Request, error: SpladeEsError) -> JSONResponse:
        statuses: dict[type[SpladeEsError], int] = {
            QueryError: 400, IndexMissing: 404, AccessDenied: 403, Unavailable: 503,
        }  # fmt: skip
        status = statuses.get(type(error), 502)
        return JSONResponse({"error": error.message, "hint": error.hint}, status)

    @app.get("/api/index")
    def about() -> Index:
        """What is searched."""
        engine = searcher.engine
        return Index(
            index=searcher.index, engine=engine.name, version=engine.version,
            model=searcher.meta.model, documents=engine.count(searcher.index),
        )  # fmt: skip

    @app.post("/api/search")
    def search(question: Question) -> Answer:
        """Hits, what made their scores, and the expansion of the query."""
        started = time.perf_counter()
        row = searcher.encode(question.query, with_sources=True)
        tokens = expansions(searcher.encoder, question.query, row, None)
        clauses = _changed(searcher.clauses(row), question.factors)
        if question.mode == "pruned":
            clauses = clauses[: question.top_k]
        asked = time.perf_counter()
        hits = _hits(searcher, question, clauses)
        ended = time.perf_counter()
        return Answer(
            hits=[_found(hit) for hit in hits],
            tokens=[QueryToken(token=t.token, weight=t.weight, word=t.word) for t in tokens],
            engine_ms=1000 * (ended - asked),
            took_ms=1000 * (time.perf_counter() - started),
        )

    @app.get("/api/explain")
    def why(query: Annotated[str, Query(max_length=100_000)], id: str) -> Why:
        """What makes up the score of one document for a query, and which words caused it."""
        found = explain(searcher, documents, query, id)
        (body,) = [d.body for d in searcher.engine.documents(searcher.index, [id])] or [""]
        end = max((part.end for part in found.contributions), default=0)
        return Why(
            id=id, score=found.score, body=body[: max(_SHOWN, end)],
            contributions=[Part(**part._asdict()) for part in found.contributions],
            unmatched=[token.token for token in found.unmatched],
            bm25=found.bm25, bm25_rank=found.bm25_rank,
        )  # fmt: skip

    @app.get("/api/document")
    def vector(id: str) -> list[DocumentToken]:
        """All tokens of a document, the strongest first."""
        found = searcher.engine.documents(searcher.index, [id])
        if not found or not found[0].body.strip():
            raise QueryError(f"The index has no text of the document {id!r}", "Ask for another.")
        tokens = expand(documents, found[0].body, Quantizer(searcher.meta.scale))
        body = found[0].body.lower()
        return [
            DocumentToken(
                token=t.token, stored=t.stored or 0, word=t.word, new=surface(t.token) not in body
            )
            for t in tokens
        ]

    app.mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True))
    return app


def listen(host: str, port: int) -> socket.socket:
    """Where the page is served; port 0 takes any that is free. Raises EngineError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise EngineError(
            f"Nothing can listen at {host}:{port} ({error.strerror})",
            "Choose another --port or --host.",
        ) from error
    # asyncio leaves it unset on sockets that it has not made, which costs 40 ms an answer
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _changed(clauses: list[Clause], factors: dict[str, float]) -> list[Clause]:
    """The clauses as somebody has turned them up or down, the strongest first."""
    changed = [
        Clause(name, boost * factor)
        for name, boost in clauses
        if (factor := factors.get(token_of(name), 1.0)) > 0
    ]
    return sorted(changed, key=lambda clause: -clause.boost)


def _hits(searcher: Searcher, question: Question, clauses: list[Clause]) -> list[Hit]:
    engine, index, k = searcher.engine, searcher.index, question.k
    if question.mode == "bm25":
        (ranked,) = engine.match(index, [question.query], k)
        return _with_texts(searcher, ranked, {})
    if not clauses:
        raise QueryError("Every token of the query is muted", "Turn one of them up.")
    hits = engine.search(index, clauses, k, contributions=True)
    if question.mode != "hybrid":
        return hits
    (tokens,) = engine.search_many(index, [clauses], _FUSED)
    (words,) = engine.match(index, [question.query], _FUSED)
    fused = reciprocal_rank_fusion([[hit.id for hit in found] for found in (tokens, words)])[:k]
    return _with_texts(searcher, fused, {hit.id: hit for hit in hits})


def _with_texts(searcher: Searcher, ranked: list[ScoredId], known: dict[str, Hit]) -> list[Hit]:
    """known: hits of the same query, with their contributions."""
    ids = [hit.id for hit in ranked]
    texts = {d.id: d for d in searcher.engine.documents(searcher.index, ids)}
    return [
        Hit(
            id, score, {"title": texts[id].title, "text": texts[id].text},
            known[id].contributions if id in known else {},
        )
        for id, score in ranked if id in texts
    ]  # fmt: skip


def _found(hit: Hit) -> Found:
    title, text = (str(hit.source.get(name) or "") for name in ("title", "text"))
    parts = sorted(hit.contributions.items(), key=lambda part: (-part[1], part[0]))
    return Found(
        id=hit.id, score=hit.score, title=title, text=text[:_SHOWN],
        contributions=[TokenScore(token=token_of(name), score=score) for name, score in parts],
    )  # fmt: skip
