"""Fixtures `engine` and `index`: a test that asks for them runs on every engine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from splade_es.engines import connect
from splade_es.engines.base import Engine
from splade_es.records import IndexMeta

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
    engine.create(name, META)
    yield name
    if engine.exists(name):
        engine.delete(name)
