"""Fixtures `engine`, `index` and `searcher`: a test that asks for them runs on every engine."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import TEXTS, WORDS
from splade_es.data.rejects import rejects_file
from splade_es.encoders.torch_encoder import Encoder
from splade_es.engines import connect
from splade_es.engines.base import Engine
from splade_es.index_meta import IndexMeta
from splade_es.indexing.load import index_corpus, index_meta, open_index
from splade_es.quantize import Quantizer
from splade_es.records import Document
from splade_es.search.searcher import Searcher
from splade_es.vectors.encode import encode_documents

META = IndexMeta("0.1.0", "models/tiny", "f" * 64, "v" * 64, 1, 100.0, 256, "max")

SERVERS = {
    "opensearch": "opensearch_url",
    "elasticsearch": "elasticsearch_url",
    "old-opensearch": "old_opensearch_url",
    "old-elasticsearch": "old_elasticsearch_url",
}


@pytest.fixture(
    scope="module",
    params=[
        "local",
        "opensearch",
        "elasticsearch",
        pytest.param("old-opensearch", marks=pytest.mark.slow),
        pytest.param("old-elasticsearch", marks=pytest.mark.slow),
    ],
)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    if request.param == "local":
        url = f"local:{tmp_path_factory.mktemp('local')}"
    else:
        url = request.getfixturevalue(SERVERS[request.param])
    engine = connect(url)
    yield engine
    engine.close()


@pytest.fixture
def index(engine: Engine) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    engine.index(name).create(META)
    yield name
    if engine.index(name).exists():
        engine.index(name).delete()


@pytest.fixture
def searcher(engine: Engine, tiny_model: str, tmp_path: Path) -> Iterator[Searcher]:
    """200 documents of random words, TEXTS, and one without any term."""
    encoder = Encoder.load(tiny_model)
    index = f"explained-{uuid.uuid4().hex}"
    open_index(engine, index, index_meta(encoder, Quantizer()))
    draw = random.Random(0)
    texts = {f"d{n}": " ".join(draw.choices(WORDS, k=20)) for n in range(200)}
    documents = [Document(id, text) for id, text in {**texts, **TEXTS, "empty": "☃"}.items()]
    with rejects_file(tmp_path / "rejects") as file:
        encoded = encode_documents(documents, encoder, Quantizer(), file)
        list(index_corpus(encoded, encoder.vocabulary, engine, index, file))
    yield Searcher(engine, index)
    engine.index(index).delete()
