"""The page of one index and its JSON API, which /openapi.json describes.

The page is three files that need no build and no network. What it shows of documents is set as
text, never as HTML, and its content security policy allows no other script.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from splade_es.encoders.base import TextEncoder
from splade_es.errors import (
    AccessDenied,
    EngineError,
    IndexMismatch,
    IndexMissing,
    QueryError,
    SpladeEsError,
    Unavailable,
)
from splade_es.features import feature_name, surface, token_of
from splade_es.inspection.expand import expand, expansions
from splade_es.inspection.explain import explain
from splade_es.inspection.page.schema import (
    Answer,
    DocumentToken,
    Found,
    Index,
    Pair,
    Part,
    Problem,
    QueryToken,
    Question,
    TokenScore,
    Why,
)
from splade_es.limits import MAX_CLAUSES
from splade_es.quantize import Quantizer
from splade_es.records import Clause, Hit
from splade_es.search.modes import Mode
from splade_es.search.searcher import Searcher
from splade_es.version import __version__

_MODES: dict[str, Mode] = {
    "exact": "splade", "pruned": "splade", "hybrid": "hybrid", "bm25": "bm25"
}  # fmt: skip
# Characters of a text, unless more of them matter.
_SHOWN = 2000
_POLICY = (
    "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STATUSES: dict[type[SpladeEsError], int] = {
    QueryError: 400, AccessDenied: 403, IndexMissing: 404, IndexMismatch: 409, Unavailable: 503,
}  # fmt: skip


def make_app(searcher: Searcher, documents: TextEncoder, hosts: list[str]) -> FastAPI:
    """The page and its API.

    documents: the document side of the searcher's model; hosts: names by which it may be requested,
    so that no other site's page can reach it by a name of its own.
    """
    app = FastAPI(
        title="splade-es", version=__version__, docs_url=None, redoc_url=None,
        description="How an index answers queries, and why.",
        responses={status: {"model": Problem} for status in (400, 403, 404, 409, 422, 502, 503)},
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
    def refuse(request: Request, error: SpladeEsError) -> JSONResponse:
        status = _STATUSES.get(type(error), 502)
        return JSONResponse({"error": error.message, "hint": error.hint}, status)

    @app.exception_handler(RequestValidationError)
    def refuse_input(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # its input may be what JSON cannot hold
        what = f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"
        return JSONResponse({"error": what, "hint": "See /openapi.json."}, 422)

    api = _Api(searcher, documents)
    app.get("/api/index")(api.index)
    app.post("/api/search")(api.search)
    app.post("/api/explain")(api.explain)
    app.get("/api/document")(api.document)
    app.mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True))
    return app


class _Api:
    """What the page asks for. The docstrings of its methods stand in /openapi.json."""

    def __init__(self, searcher: Searcher, documents: TextEncoder) -> None:
        self._searcher = searcher
        self._documents = documents

    def index(self) -> Index:
        """What is searched."""
        index = self._searcher.index
        return Index(
            index=index.name, engine=index.engine.name, version=index.engine.version,
            model=self._searcher.meta.model, documents=index.count(),
        )  # fmt: skip

    def search(self, question: Question) -> Answer:
        """Hits, what made their scores, and the expansion of the query."""
        started = time.perf_counter()
        searcher = self._searcher
        try:
            searcher.check_current()
        except IndexMismatch as error:
            error.hint = "Restart splade-es serve."
            raise
        row = searcher.encode(question.query, with_sources=True)
        asked_for = searcher.clauses(row)
        sent = {token_of(clause.feature) for clause in asked_for}
        tokens = expansions(searcher.encoder, question.query, row, None)
        clauses = _changed(asked_for, question.factors)
        if question.mode == "pruned":
            clauses = clauses[: question.top_k]
        asked = time.perf_counter()
        if not clauses and question.mode != "bm25":
            raise QueryError("Every token of the query is muted", "Turn one of them up.")
        hits = searcher.search_clauses(
            question.query, clauses, question.k, mode=_MODES[question.mode], contributions=True
        )
        ended = time.perf_counter()
        return Answer(
            hits=[_found(hit) for hit in hits],
            tokens=[
                QueryToken(token=t.token, weight=t.weight, word=t.word)
                for t in tokens
                if t.token in sent
            ],
            engine_ms=1000 * (ended - asked),
            took_ms=1000 * (time.perf_counter() - started),
        )

    def explain(self, pair: Pair) -> Why:
        """What makes up the score of one document for a query, and which words caused it."""
        found = explain(self._searcher, self._documents, pair.query, pair.id)
        end = max((part.end for part in found.contributions), default=0)
        return Why(
            id=pair.id, score=found.score, body=found.body[: max(_SHOWN, end)],
            contributions=[Part(**part._asdict()) for part in found.contributions],
            unmatched=[token.token for token in found.unmatched],
            bm25=found.bm25, bm25_rank=found.bm25_rank,
        )  # fmt: skip

    def document(self, id: str) -> list[DocumentToken]:
        """Tokens that the model finds in a document's text, with what the index has of them."""
        index = self._searcher.index
        found = index.documents([id])
        if not found or not found[0].body.strip():
            raise QueryError(f"The index has no text of the document {id!r}", "Ask for another.")
        scale = self._searcher.meta.scale
        tokens = expand(self._documents, found[0].body, Quantizer(scale))[:MAX_CLAUSES]
        clauses = [Clause(feature_name(token.token), 1.0) for token in tokens]
        stored = index.explain(clauses, id)
        body = found[0].body.lower()
        return [
            DocumentToken(
                token=t.token, stored=round(stored[name]), word=t.word,
                new=surface(t.token) not in body,
            )
            for t, (name, _) in zip(tokens, clauses, strict=True) if name in stored
        ]  # fmt: skip


def listen(host: str, port: int) -> socket.socket:
    """A socket for the page; port 0 takes any free port. Raises EngineError."""
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise EngineError(
            f"Nothing can listen at {host}:{port} ({error.strerror})",
            "Choose another `port` or `host`.",
        ) from error
    # asyncio leaves it unset on sockets that it has not made, which costs 40 ms an answer
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _changed(clauses: list[Clause], factors: dict[str, float]) -> list[Clause]:
    """The clauses as they were turned up or down, the strongest first."""
    changed = [
        Clause(name, boost * factor)
        for name, boost in clauses
        if (factor := factors.get(token_of(name), 1.0)) > 0
    ]
    return sorted(changed, key=lambda clause: -clause.boost)


def _found(hit: Hit) -> Found:
    title, text = (str(hit.source.get(name) or "") for name in ("title", "text"))
    body = f"{title} {text}".lower()
    parts = [
        TokenScore(token=token, score=score, new=bool(text) and surface(token) not in body)
        for token, score in ((token_of(name), score) for name, score in hit.contributions.items())
    ]
    parts.sort(key=lambda part: (-part.score, part.token))
    return Found(id=hit.id, score=hit.score, title=title, text=text[:_SHOWN], contributions=parts)
