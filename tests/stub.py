"""Fixture `stub`: a server that answers whatever a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

INDEX = b'{"docs": {"settings": {"index": {"uuid": "u1"}}}}'


class Stub:
    """A server on the loopback that gives every request of a method the same answer."""

    def __init__(self) -> None:
        self.status, self.content_type, self.body = 200, "application/json", b"{}"
        self.further: dict[str, str] = {"x-elastic-product": "Elasticsearch"}  # headers
        self.finds_index = True  # whatever it says, as the look for it comes before a bulk
        self.missing = 0  # bytes of a body that are announced, and never sent
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                stub.bodies.append(self.rfile.read(int(self.headers.get("content-length", 0))))
                stub.headers.append({name.lower(): v for name, v in self.headers.items()})
                stub.requests.append(f"{self.command} {self.path}")
                status, kind, body = stub.status, stub.content_type, stub.body
                if stub.finds_index and "index.uuid" in self.path:
                    status, kind, body = 200, "application/json", INDEX
                self.send_response(status)
                self.send_header("content-type", kind)
                for name, value in stub.further.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body) + stub.missing))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def says(self, status: int, body: Any, content_type: str = "application/json") -> None:
        self.status, self.content_type = status, content_type
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    thread = threading.Thread(target=stub.server.serve_forever, args=(0.01,))
    thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()
    thread.join()
