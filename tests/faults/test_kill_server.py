"""A load whose server is killed and comes back, or loses a node of its cluster."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import WORDS
from servers import ELASTICSEARCH, OPENSEARCH, Server, or_skip, running_cluster, running_server
from splade_es import LoadProgress, connect
from splade_es.engines.connect import connect_engine
from splade_es.engines.server import ServerEngine


def write_corpus(path: Path, documents: int) -> dict[str, str]:
    draw = random.Random(0)
    texts = {f"d{n}": " ".join(draw.choices(WORDS, k=80)) for n in range(documents)}
    path.write_text("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in texts.items()))
    return texts


def wait_for(journal: Path, requests: int) -> None:
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") <= requests:
        assert time.monotonic() < deadline, "the load does not go on"
        time.sleep(0.01)


@pytest.fixture(params=["opensearch", pytest.param("elasticsearch", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    version = OPENSEARCH if request.param == "opensearch" else ELASTICSEARCH
    with or_skip(), running_server(request.param, version) as server:
        yield server


def test_a_server_killed_three_times_loses_nothing(
    server: Server, tiny_model: str, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    texts = write_corpus(corpus, 6000)
    kills = []
    over = threading.Event()

    def killer() -> None:
        for requests in (10, 25, 40):
            wait_for(tmp_path / "corpus.jsonl.hurt.journal", requests)
            server.kill()
            kills.append(requests)
            time.sleep(1)
            assert server.start()
        over.wait()  # the server lives no longer than this thread

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        with connect(server.url) as engine:
            done = engine.index("hurt").load(
                corpus,
                tiny_model,
                replicas_while_loading=False,
                request_bytes=64_000,
                rejects=str(tmp_path / "rejects"),
            )
        check(server, texts, done)
    finally:
        over.set()
        thread.join()
    assert kills == [10, 25, 40]


@pytest.mark.slow
def test_ctrl_c_ends_a_load_whose_server_hangs(
    server: Server, tiny_model: str, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    write_corpus(corpus, 20_000)
    variables = {**os.environ, "SPLADE_ES_URL": server.url}
    process = subprocess.Popen(
        [sys.executable, "-m", "splade_es", "index", str(corpus), "--index", "hung",
         "--model", tiny_model],
        cwd=tmp_path, env=variables, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(tmp_path / "corpus.jsonl.hung.journal", 3)
    server.hang()
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=100)
    # ten seconds for what is in flight, and ten for the settings of the index
    assert time.monotonic() - began < 40, stderr
    assert "(timed out" in stderr or "Read timed out" in stderr
    assert process.returncode == 130 and "Traceback" not in stderr
    assert "refresh_interval -1" in stderr and "--resume" in stderr


def check(server: Server, texts: dict[str, str], done: LoadProgress) -> None:
    assert (done.indexed, done.rejected) == (6000, 0)
    engine = connect_engine(server.url)
    assert engine.index("hurt").count() == 6000
    found = engine.index("hurt").documents(list(texts))
    assert {document.id: document.text for document in found} == texts
    settings = engine.index("hurt").settings
    assert settings and settings.read()["auto_expand_replicas"] == "0-1"
    engine.close()


def test_a_cluster_that_loses_a_node_goes_on(tiny_model: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    texts = write_corpus(corpus, 6000)
    with or_skip(), running_cluster(3) as nodes:
        url = ",".join(node.url for node in nodes)
        lost = []

        def killer() -> None:
            wait_for(tmp_path / "corpus.jsonl.spread.journal", 20)
            engine = connect_engine(url)
            assert isinstance(engine, ServerEngine)
            answer = engine.request("GET", "/spread/_search_shards")
            (copies,) = answer["shards"]
            assert len({copy["node"] for copy in copies}) == 2
            (node,) = [copy["node"] for copy in copies if copy["primary"]]
            primary = answer["nodes"][node]["name"]
            nodes[int(primary[1:])].kill()
            lost.append(primary)
            engine.close()

        thread = threading.Thread(target=killer)
        thread.start()
        with connect(url) as loader:
            done = loader.index("spread").load(
                corpus, tiny_model, request_bytes=64_000, rejects=str(tmp_path / "rejects")
            )
        thread.join()
        assert len(lost) == 1
        assert done.indexed == 6000
        engine = connect_engine(url)
        assert engine.index("spread").count() == 6000
        found = engine.index("spread").documents(list(texts))
        assert {document.id: document.text for document in found} == texts
        engine.close()
