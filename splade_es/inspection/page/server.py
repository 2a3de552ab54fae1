"""The server of the page, with limits: what a client may send, and how long that may take."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

# Bytes of a request: ten times what a long query has.
_BODY = 1 << 20
# Connections at a time, so that their requests fit in memory.
_CONNECTIONS = 256
# Seconds that searches may still take after Ctrl-C.
_SHUTDOWN = 3


def make_server(app: FastAPI, *, seconds: float = 10.0) -> uvicorn.Server:
    """A server of the page. seconds: that the head of a request, and its body, may take."""
    return uvicorn.Server(
        uvicorn.Config(
            _BoundedBodies(app, seconds),
            http=type("Connection", (_Connection,), {"seconds": seconds}),
            ws="none",
            lifespan="off",
            log_level="warning",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_SHUTDOWN,
        )
    )


class _Connection(H11Protocol):
    """A connection that is closed if the head of a request does not come in time."""

    seconds: float
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._waits:
            self._forget_deadline()
        elif self._deadline is None:  # the next request on this connection
            self._deadline = self.loop.call_later(self.seconds, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End it, now if it waits for the client, otherwise after the answer."""
        if self._waits or self.cycle.more_body:
            self.transport.close()
        else:
            super().shutdown()

    @property
    def _waits(self) -> bool:
        """Whether there is no request of which the head is complete."""
        return self.cycle is None or self.cycle.response_complete

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _BoundedBodies:
    """Reads the body of each request before it is answered, and refuses a long or a slow one."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        size = 0

        async def read() -> bool:
            """Whether all of it came. What is too much is read as well, and forgotten."""
            nonlocal size
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return False
                part = message.get("body", b"")
                size += len(part)
                if size <= _BODY:
                    body.extend(part)
                more = message.get("more_body", False)
            return True

        try:
            if not await asyncio.wait_for(read(), self._seconds):
                return
        except asyncio.TimeoutError:
            await _refuse(408, "The request did not come in time", "Send it at once.")(
                scope, receive, send
            )
            return
        if size > _BODY:
            await _refuse(
                413, f"The request has more than {_BODY:,} bytes", "Send a shorter query."
            )(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body)}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)


def _refuse(status: int, error: str, hint: str) -> JSONResponse:
    return JSONResponse({"error": error, "hint": hint}, status, {"connection": "close"})
