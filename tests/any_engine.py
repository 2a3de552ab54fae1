"""Fixtures `engine`, `index` and `searcher`: a test that asks for them runs on every engine."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from models import TEXTS, WORDS
from splade_es.data.rejects import Rejects
from splade_es.encoders.base import TextEncoder, make_index_meta
from splade_es.engines.base import Engine
from splade_es.engines.connect import connect_engine
from splade_es.engines.transport import to_json
from splade_es.fields import FIELD, FIELDS_FIELD, ID_FIELD, PREFIX
from splade_es.filter_terms import filter_terms
from splade_es.index_handle import Index
from splade_es.index_meta import IndexMeta
from splade_es.quantize import Quantizer
from splade_es.records import Action, Document, Encoded, Rejected
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
    engine = connect_engine(url)
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
    index = Index(engine, f"explained-{uuid.uuid4().hex}")
    draw = random.Random(0)
    texts = {f"d{n}": " ".join(draw.choices(WORDS, k=20)) for n in range(200)}
    corpus = write_corpus(tmp_path / "explained.jsonl", {**texts, **TEXTS, "empty": "☃"})
    index.load(corpus, tiny_model, rejects=str(tmp_path / "rejects"))
    yield index.searcher(interactive=False)
    index.delete()


class MemorySource:
    """A `DocumentSource` of documents, and of bad lines, in memory."""

    corpus = "memory"
    file: str | None = None

    def __init__(
        self,
        items: Iterable[Document | Rejected],
        encoder: TextEncoder,
        quantizer: Quantizer = Quantizer(),  # noqa: B008  frozen
    ) -> None:
        self._items, self._encoder, self._quantizer = items, encoder, quantizer
        self.settings = quantizer.settings
        self.meta = make_index_meta(encoder, quantizer.scale)
        self.vocabulary = encoder.vocabulary

    def open(self) -> AbstractContextManager[None]:
        return nullcontext()

    def items(self) -> Iterator[Document | Rejected]:
        return iter(self._items)

    def encoded(self, items: Iterable[Any], rejects: Rejects) -> Iterator[Encoded]:
        return encode_documents(items, self._encoder, self._quantizer, rejects)


def action(id: str, source: Mapping[Any, Any]) -> Action:
    """What indexes a document of these fields, its vector among them."""
    others = {name: value for name, value in source.items() if name not in (FIELD, ID_FIELD)}
    further = {k: v for k, v in others.items() if k not in ("title", "text") and k[:6] != PREFIX}
    others[FIELDS_FIELD] = filter_terms(further)
    return Action(id, to_json(others), to_json(source.get(FIELD, {})))


def write_corpus(path: Path, texts: Mapping[str, str]) -> Path:
    """Texts by id, as JSON Lines."""
    lines = [json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items()]
    path.write_text("".join(lines))
    return path
