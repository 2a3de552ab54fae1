"""A load through a network that fails in every way we know."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from models import WORDS
from proxy import FAULTS, running_proxy
from splade_es import connect
from splade_es.engines.connect import connect_engine


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("server", ["opensearch_url", "elasticsearch_url"])
def test_nothing_is_lost_or_doubled_when_a_third_of_the_requests_fail(
    server: str,
    request: pytest.FixtureRequest,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda a, b: 0.05)  # shorter waits
    draw = random.Random(0)
    texts = {f"d{n}": " ".join(draw.choices(WORDS, k=40)) for n in range(6000)}
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in texts.items()))

    url = request.getfixturevalue(server)
    engine = connect_engine(url)
    name = f"through-{server[:4]}"
    with running_proxy(url, share=1 / 3, stall=1.0) as proxy, connect(proxy.url) as hurt:
        done = hurt.index(name).load(corpus, tiny_model, request_bytes=64_000)
    assert (done.read, done.indexed, done.rejected) == (6000, 6000, 0)
    assert {*FAULTS, "other"} - {"413"} <= set(proxy.counts)  # it did hurt
    assert engine.index(name).count() == 6000
    found = engine.index(name).documents(list(texts))
    assert {document.id: document.text for document in found} == texts
    settings = engine.index(name).settings
    assert settings and settings.read().get("refresh_interval") is None
    assert not list(tmp_path.glob("*.journal")) and not list(tmp_path.glob("*.rejects.jsonl"))
    engine.index(name).delete()
    engine.close()
