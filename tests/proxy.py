"""A proxy on the loopback that hurts bulk requests as networks and busy servers do."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

FAULTS = (
    "items 429", "429", "429 with Retry-After", "502", "503", "413", "reset before", "reset after",
    "half an answer", "stall",
)  # fmt: skip


class Proxy:
    """Forwards all to `target`, and hurts a share of the bulk requests, and with 503 of all others
    about an index.

    A 413 is given for bodies of more than `largest` bytes only, as a server does. sent: takes the
    method, path, headers and body of each request. counts: how often each fault was done, ""
    for a bulk request that was left alone, and "other" for what was no bulk request.
    """

    def __init__(
        self,
        target: str,
        share: float,
        stall: float,
        sent: list[tuple[str, str, dict[str, str], bytes]] | None = None,
        largest: int = 100_000,
        seed: int = 0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        parts = urlsplit(target)
        where = (parts.hostname or "", parts.port or 80)
        random_ = random.Random(seed)
        faults = cycle(FAULTS)
        lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self, body: bytes) -> tuple[int, bytes, Any]:
                connection = HTTPConnection(*where, timeout=120)
                own = ("host", "content-length", "connection")
                headers = {k: v for k, v in self.headers.items() if k.lower() not in own}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                return answer.status, data, answer.headers

            def reply(self, status: int, data: bytes, headers: Any) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def refuse(self, status: int, headers: dict[str, str]) -> None:
                page = f"<html>{status}</html>".encode()
                self.reply(status, page, {"content-type": "text/html", **headers})

            def reset(self) -> None:
                linger = struct.pack("ii", 1, 0)  # the kernel sends RST, not FIN
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if sent is not None:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    sent.append((self.command, self.path, headers, body))
                fault = ""
                if "/_bulk" in self.path:
                    with lock:
                        if random_.random() < share:
                            fault = next(faults)
                    if fault == "413" and len(body) < largest:
                        fault = ""
                    proxy.counts[fault] += 1
                elif "/_" in self.path[1:]:
                    with lock:
                        if random_.random() < share:
                            fault = "503"
                            proxy.counts["other"] += 1
                match fault:
                    case "items 429":
                        self.reply(*self.forward_half(body))
                    case "429 with Retry-After":
                        self.refuse(429, {"retry-after": "1"})
                    case "429" | "502" | "503" | "413":
                        self.refuse(int(fault), {})
                    case "reset before":
                        self.reset()
                    case "reset after":
                        self.forward(body)
                        self.reset()
                    case "half an answer":
                        status, data, headers = self.forward(body)
                        self.send_response(status)
                        self.send_header("content-type", headers["content-type"])
                        self.send_header("content-length", str(len(data)))
                        self.end_headers()
                        self.wfile.write(data[: len(data) // 2])
                        self.close_connection = True
                    case _:
                        if fault == "stall":
                            time.sleep(stall)
                        self.reply(*self.forward(body))

            def forward_half(self, body: bytes) -> tuple[int, bytes, Any]:
                """Every other item is refused, and never sent on."""
                lines = body.splitlines()
                kept = [lines[n : n + 2] for n in range(0, len(lines), 4)]
                status, data, headers = self.forward(
                    b"".join(line + b"\n" for pair in kept for line in pair)
                )
                answered = iter(json.loads(data)["items"])
                error = {"type": "es_rejected_execution_exception", "reason": "queue is full"}
                refused = {"index": {"status": 429, "error": error}}
                items = [refused if n % 2 else next(answered) for n in range(len(lines) // 2)]
                return status, json.dumps({"errors": True, "items": items}).encode(), headers

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        user = f"{parts.username}:{parts.password}@" if parts.username else ""
        self.url = f"http://{user}127.0.0.1:{self.server.server_port}"


@contextmanager
def running_proxy(
    target: str,
    share: float,
    stall: float,
    sent: list[tuple[str, str, dict[str, str], bytes]] | None = None,
) -> Iterator[Proxy]:
    proxy = Proxy(target, share, stall, sent)
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
