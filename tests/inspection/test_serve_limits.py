"""What a client sends too much of, or too slowly, costs the server neither memory nor its end."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from splade_es.encoders.load import load_document_encoder
from splade_es.engines.connect import connect_engine
from splade_es.inspection.page.app import listen, make_app
from splade_es.inspection.page.server import make_server
from splade_es.search.searcher import Searcher

HEAD = b"POST /api/search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
BODY = b'{"query": "heart"}'
#: The server's patience in these tests.
SECONDS = 1.0


@pytest.fixture
def port(loaded: str) -> Iterator[int]:
    engine = connect_engine(None)
    searcher = Searcher(engine.index(loaded), interactive=True)
    documents = load_document_encoder(searcher.encoder.name, 64, interactive=True)
    with listen("127.0.0.1", 0) as listening:
        server = make_server(make_app(searcher, documents, ["127.0.0.1"]), seconds=SECONDS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(timeout=30)
    engine.close()
    assert not thread.is_alive()


def send(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """All that the server answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has closed the connection already
        answer = b""
        try:
            while part := client.recv(1 << 16):
                answer += part
        except ConnectionResetError:
            pass
    return answer


def said(answer: bytes) -> tuple[int, dict[str, str]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def length(size: int) -> bytes:
    return HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % size


TOO_LONG = {"error": "The request has more than 1,048,576 bytes", "hint": "Send a shorter query."}


def test_a_long_body_is_refused_and_not_kept(port: int) -> None:
    block = b"x" * (1 << 20)
    chunk = b"%x\r\n%s\r\n" % (len(block), block)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert said(send(port, length(150 << 20), *[block] * 150)) == (413, TOO_LONG)
    chunked = HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    assert said(send(port, chunked, *[chunk] * 150, b"0\r\n\r\n")) == (413, TOO_LONG)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50 << 10  # KiB
    status, answer = said(send(port, length(len(BODY)), BODY))
    assert status == 200 and answer["hits"]
    status, _ = said(send(port, length(1 << 20), BODY.ljust(1 << 20)))
    assert status == 200


def drip(content: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in content]


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([b""], None),
        ([HEAD], None),
        (drip(HEAD), None),
        ([length(len(BODY))], 408),
        ([length(100), *drip(b"x" * 100)], 408),
    ],
    ids=["nothing", "half a head", "a head by the byte", "no body", "a body by the byte"],
)
def test_a_slow_client_is_left(port: int, parts: list[bytes], status: int | None) -> None:
    started = time.monotonic()
    answer = send(port, *parts, pause=0.1)
    assert SECONDS * 0.9 < time.monotonic() - started < 20
    assert (said(answer)[0] if answer else None) == status


def test_the_second_request_of_a_connection_is_waited_for_no_longer(port: int) -> None:
    first = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    started = time.monotonic()
    answer = send(port, first, *drip(HEAD), pause=0.05)
    assert answer.startswith(b"HTTP/1.1 200 OK") and answer.count(b"HTTP/1.1") == 1
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("sent", [HEAD, length(100) + b"x"], ids=["heads", "bodies"])
def test_ctrl_c_ends_it_in_seconds_whatever_is_half_sent(loaded: str, sent: bytes) -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from splade_es.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "serve", "--index", loaded, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline()
        port = int(address.split()[0].rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(200)]
        for client in clients:
            client.sendall(sent)
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        assert time.monotonic() - started < 8
        assert process.returncode == 130
        assert process.stderr.read().splitlines()[-1] == "Interrupted."
        for client in clients:
            client.close()
