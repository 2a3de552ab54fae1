"""A load whose server is killed and comes back, or loses a node of its cluster."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import run
from models import WORDS
from servers import ELASTICSEARCH, OPENSEARCH, Server, or_skip, running_cluster, running_server
from splade_es.engines import connect
from splade_es.engines.server import ServerEngine


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splade_es.indexing.bulk_sender._FIRST", 64_000)
    monkeypatch.setattr("splade_es.indexing.bulk_sender._LARGEST", 64_000)


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


@pytest.mark.usefixtures("home", "small_requests")
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
    result = run(
        *("index", corpus, "--model", tiny_model, "--index", "hurt"),
        *("--url", server.url, "--no-replicas", "--json"),
    )
    try:
        assert result.exit_code == 0, result.stderr
        check(server, texts, json.loads(result.stdout))
    finally:
        over.set()
        thread.join()
    assert kills == [10, 25, 40]


def check(server: Server, texts: dict[str, str], summary: dict[str, Any]) -> None:
    assert (summary["indexed"], summary["rejected"]) == (6000, 0)
    engine = connect(server.url)
    assert engine.index("hurt").count() == 6000
    found = engine.index("hurt").documents(list(texts))
    assert {document.id: document.text for document in found} == texts
    assert engine.index("hurt").settings.read()["auto_expand_replicas"] == "0-1"
    engine.close()


@pytest.mark.usefixtures("home", "small_requests")
def test_a_cluster_that_loses_a_node_goes_on(tiny_model: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    texts = write_corpus(corpus, 6000)
    with or_skip(), running_cluster(3) as nodes:
        url = ",".join(node.url for node in nodes)
        lost = []

        def killer() -> None:
            wait_for(tmp_path / "corpus.jsonl.spread.journal", 20)
            engine = connect(url)
            assert isinstance(engine, ServerEngine)
            shards = engine._send("GET", "/_cat/shards/spread?format=json&h=prirep,node", None)
            (primary,) = [shard["node"] for shard in shards if shard["prirep"] == "p"]
            assert len({shard["node"] for shard in shards}) == 2
            nodes[int(primary[1:])].kill()
            lost.append(primary)
            engine.close()

        thread = threading.Thread(target=killer)
        thread.start()
        result = run(
            *("index", corpus, "--model", tiny_model, "--index", "spread"),
            *("--url", url, "--json"),
        )
        thread.join()
        assert result.exit_code == 0, result.stderr
        assert len(lost) == 1
        assert json.loads(result.stdout)["indexed"] == 6000
        engine = connect(url)
        assert engine.index("spread").count() == 6000
        found = engine.index("spread").documents(list(texts))
        assert {document.id: document.text for document in found} == texts
        engine.close()
