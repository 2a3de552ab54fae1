"""Features for an index that others write to meanwhile."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import run
from models import WORDS
from splade_es.encoders.torch_encoder import Encoder
from splade_es.engines.connect import connect_engine
from splade_es.engines.server import ServerEngine
from splade_es.errors import EngineError
from splade_es.features import feature_names
from splade_es.quantize import Quantizer
from splade_es.records import Clause, Document


@pytest.fixture(params=["opensearch_url", "elasticsearch_url"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def products(url: str) -> Iterator[tuple[ServerEngine, str]]:
    """An index of somebody else, of two shards: 2,000 documents with a body and a counter."""
    engine = connect_engine(url)
    assert isinstance(engine, ServerEngine)
    name = f"products-{uuid.uuid4().hex[:8]}"
    mapping = {"dynamic": "strict", "_meta": {"team": "shop"}, "properties": {
        "body": {"type": "text"}, "tags": {"type": "keyword"}, "views": {"type": "integer"},
    }}  # fmt: skip
    body = {"settings": {"number_of_shards": 2}, "mappings": mapping}
    engine.request("PUT", f"/{name}", body)
    draw = random.Random(0)
    lines: list[Any] = []
    for n in range(2000):
        lines += [{"index": {"_id": f"d{n}"}}]
        lines += [{"body": " ".join(draw.choices(WORDS, k=30)), "views": 0}]
    engine.request("POST", f"/{name}/_bulk", *lines, {"index": {"_id": "no"}}, {"views": 7})
    engine.index(name).refresh()
    yield engine, name
    engine.request("DELETE", f"/{name}")
    engine.close()


def sources(engine: ServerEngine, index: str) -> dict[str, dict[str, object]]:
    engine.index(index).refresh()
    hits = engine.request("POST", f"/{index}/_search", {"size": 5000})["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in hits}


@pytest.mark.usefixtures("home")
def test_no_edit_of_another_writer_is_lost(
    products: tuple[ServerEngine, str], url: str, tiny_model: str, tmp_path: Path
) -> None:
    engine, index = products
    draw = random.Random(1)
    views: Counter[str] = Counter()
    bodies: dict[str, str] = {}
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            id = f"d{draw.randrange(2000)}"
            match draw.randrange(3):
                case 0:  # a field beside the text
                    views[id] += 1
                    change: Any = {"doc": {"views": views[id]}}
                    action = f"/_update/{id}?retry_on_conflict=20"
                case 1:  # the text
                    bodies[id] = " ".join(draw.choices(WORDS, k=20))
                    change = {"doc": {"body": bodies[id]}}
                    action = f"/_update/{id}?retry_on_conflict=20"
                case _:  # the whole document, which takes the features with it
                    bodies[id] = " ".join(draw.choices(WORDS, k=20))
                    change = {"body": bodies[id], "views": views[id]}
                    action = f"/_doc/{id}"
            engine.request("POST", f"/{index}{action}", change)

    original = sources(engine, index)
    writer = threading.Thread(target=write)
    writer.start()
    timer = threading.Timer(10, stop.set)
    timer.start()
    args = (
        "backfill",
        "--index",
        index,
        "--field",
        "body",
        "--model",
        tiny_model,
        "--url",
        url,
        "--json",
    )
    try:
        first = json.loads(run(*args).stdout)
    finally:
        stop.set()
        writer.join()
        timer.cancel()
    assert first["conflicts"] > 0 and first["without"] == 1, "the writer was too slow to matter"
    last = json.loads(run(*args).stdout)
    assert last["unchanged"] + last["updated"] == 2000 and last["conflicts"] == 0

    found = sources(engine, index)
    assert len(found) == 2001
    for id, source in found.items():
        assert source["views"] == (views[id] if id != "no" else 7)
        if id == "no":
            assert "splade_n" not in source
            continue
        assert source["body"] == bodies.get(id, original[id]["body"])
        document = Document(id, str(source["body"]))
        assert source["splade_hash"] == document.content_hash(Quantizer().settings)
    assert engine.request("GET", f"/{index}/_mapping")[index]["mappings"]["_meta"]["team"] == "shop"
    deleted = run("delete", "--index", index, "--url", url, "--yes")
    assert deleted.exit_code == 1 and "Others made the index" in deleted.stderr
    with pytest.raises(EngineError, match=r"Others made the index .* only added features"):
        engine.index(index).delete()

    encoder = Encoder.load(tiny_model)
    text = str(found["d7"]["body"])
    (row,) = encoder.encode([text])
    view = {f"{encoder.vocabulary[i]}:{v}" for i, v in zip(
        *Quantizer().quantize(row)[:2], strict=True)}  # fmt: skip
    assert set(str(found["d7"]["splade_view"]).split()) == view
    body = {
        "query": {"ids": {"values": ["d7"]}},
        "_source": engine.name == "opensearch" or {"exclude_vectors": False},
    }
    (hit,) = engine.request("POST", f"/{index}/_search", body)["hits"]["hits"]
    features = hit["_source"]["splade"]  # of a list Elasticsearch makes an object
    features = features[0] if isinstance(features, list) else features
    assert len(features) == len(view)  # none of an earlier text is left
    clauses = [Clause(feature_names(encoder.vocabulary)[i], 1.0) for i in row.ids.tolist()]
    expected = float(Quantizer().quantize(row).values.sum())
    assert sum(engine.index(index).explain(clauses, "d7").values()) == expected

    # Text is found where it is, and BM25 leaves alone what the backfill never saw.
    engine.request("PUT", f"/{index}/_doc/strange?refresh=true", {"body": text, "views": 1})
    later = connect_engine(url)
    (words,) = later.index(index).search_bm25([text], 10)
    assert words[0].id == "d7" and "strange" not in {hit.id for hit in words}
    explained = run("explain", text, "d7", "--index", index, "--url", url, "--json")
    why = json.loads(explained.stdout)
    assert why["bm25_rank"] == 1
    assert all(part["document_word"] in text for part in why["contributions"])
    assert any(part["document_word"] for part in why["contributions"])
    (hit,) = later.index(index).search(clauses, 1)
    later.close()
    assert hit.source["text"] == found[hit.id]["body"]
    engine.request("DELETE", f"/{index}/_doc/strange?refresh=true")

    engine.request("POST", f"/{index}/_update/d7", {"doc": {"body": ""}})
    emptied = json.loads(run(*args).stdout)
    assert (emptied["updated"], emptied["without"]) == (1, 1)
    assert engine.index(index).explain(clauses, "d7") == {}


@pytest.mark.usefixtures("home")
def test_what_cannot_be_filled_is_refused(
    products: tuple[ServerEngine, str], url: str, tiny_model: str, tmp_path: Path
) -> None:
    engine, index = products
    args = ("backfill", "--index", index, "--field", "body", "--model", tiny_model)
    assert "The local engine holds no index that others made" in run(*args).stderr
    nothing = run(*args[:3], "--field", "tags", "--field", "x.y", *args[5:], "--url", url)
    assert nothing.exit_code == 1
    assert f"No document of {index!r} has text in tags or x.y" in nothing.stderr
    updates = engine.index(index).updates
    assert updates and not updates.features_field()
    engine.request("PUT", f"/{index}/_mapping", {"properties": {"splade": {"type": "keyword"}}})
    refused = run(*args, "--url", url)
    assert refused.exit_code == 1 and "already has a field 'splade'" in refused.stderr
    with pytest.raises(EngineError, match="splade-es did not make"):
        engine.index(index).delete()
