"""A load whose process is killed again and again, and resumed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from models import WORDS
from splade_es.engines.connect import connect_engine
from splade_es.engines.server import ServerEngine

# A service that loads a corpus with public names alone, and logs each document that it encodes.
SERVICE = """
import dataclasses, json, sys
import splade_es

log = open(sys.argv[1], "a", buffering=1)


class Logging(splade_es.Encoder):
    def encode(self, texts, **options):
        for row in super().encode(texts, **options):
            log.write("encoded\\n")
            yield row


corpus, model, url, name, resume = sys.argv[2:]
with splade_es.connect(url) as engine:
    settings = {"resume": True} if resume == "resume" else {"recreate": True}
    done = engine.index(name).load(corpus, Logging.load(model), **settings)
    print(json.dumps(dataclasses.asdict(done)))
"""


@pytest.mark.parametrize(
    "server, documents, kills",
    [
        ("opensearch_url", 3000, 2),
        pytest.param("opensearch_url", 20_000, 20, marks=pytest.mark.slow),
        pytest.param("elasticsearch_url", 20_000, 20, marks=pytest.mark.slow),
    ],
)
def test_every_document_is_there_once_and_little_is_encoded_twice(
    server: str,
    documents: int,
    kills: int,
    request: pytest.FixtureRequest,
    tiny_model: str,
    tmp_path: Path,
) -> None:
    draw = random.Random(0)
    corpus = tmp_path / "corpus.jsonl"
    with corpus.open("w") as file:
        for n in range(documents):
            file.write(json.dumps({"_id": f"d{n}", "text": " ".join(draw.choices(WORDS, k=150))}))
            file.write("\n")
    url = request.getfixturevalue(server)
    name = f"killed-{documents}"
    journal, log = tmp_path / f"corpus.jsonl.{name}.journal", tmp_path / "encoded"
    command = [sys.executable, "-c", SERVICE, str(log), str(corpus), tiny_model, url]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    acknowledged = 0
    twice = []
    for _ in range(kills):
        encoded = len(log.read_text().split()) if log.exists() else 0
        process = subprocess.Popen(
            [*command, name, "resume"], env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(numbers(journal)) <= acknowledged:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.2))
        assert process.poll() is None, "the load ended before it was killed often enough"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done = numbers(journal)
        assert len(done) == len(set(done)) > acknowledged
        twice.append(len(log.read_text().split()) - encoded - (len(done) - acknowledged))
        acknowledged = len(done)
    done_at_last = subprocess.run(
        [*command, name, "resume"], env=environment, cwd=tmp_path, capture_output=True, check=True
    )
    summary = json.loads(done_at_last.stdout)
    assert (summary["read"], summary["indexed"], summary["rejected"]) == (documents, documents, 0)
    assert summary["resumed"] == acknowledged and not journal.exists()
    print(f"encoded in vain after each kill: {twice}")
    assert max(twice) <= 2048  # what was encoded, queued or under way

    engine = connect_engine(url)
    assert isinstance(engine, ServerEngine)
    assert engine.index(name).count() == documents
    subprocess.run(
        [*command, "undisturbed", "anew"],
        env=environment, cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    assert everything(engine, name) == everything(engine, "undisturbed")
    assert len(Counter(everything(engine, name))) == documents
    settings = engine.index(name).settings
    assert settings and settings.read().get("refresh_interval") is None
    engine.index(name).delete()
    engine.index("undisturbed").delete()
    engine.close()


def numbers(journal: Path) -> list[int]:
    """The documents that a journal says are done."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().splitlines(keepends=True)
    runs = [
        run for line in lines[1:] if line.endswith(b"\n") for run in json.loads(line)["numbers"]
    ]
    return [n for first, last in runs for n in range(first, last + 1)]


def everything(engine: ServerEngine, index: str) -> dict[str, Any]:
    """Id -> all that is stored of it, but when."""
    found: dict[str, Any] = {}
    body: dict[str, Any] = {"size": 5000, "sort": ["splade_id"]}
    body["_source"] = {"exclude_vectors": False} if engine.name == "elasticsearch" else True
    while hits := engine.request("POST", f"/{index}/_search", body)["hits"]["hits"]:
        found |= {hit["_id"]: hit["_source"] for hit in hits}
        for hit in hits:
            del hit["_source"]["splade_at"]
        body["search_after"] = hits[-1]["sort"]
    return found
