"""The public names, used as a notebook or a service uses them, on every engine."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import splade_es
from any_engine import SERVERS
from models import TEXTS


@pytest.fixture(params=["local", "opensearch", "elasticsearch"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return f"local:{tmp_path / 'indices'}"
    found: str = request.getfixturevalue(SERVERS[request.param])
    return found


@pytest.fixture
def name(url: str) -> Iterator[str]:
    name = f"articles-{uuid.uuid4().hex[:8]}"
    yield name
    with splade_es.connect(url) as engine:
        for index in engine.indices():
            if index.startswith(name):
                engine.index(index).delete()


@pytest.mark.usefixtures("home")
def test_the_example_of_the_documentation(
    url: str, name: str, tiny_model: str, beir_folder: Path
) -> None:
    encoder = splade_es.Encoder.load(tiny_model)
    rows = list(encoder.encode(TEXTS.values()))
    tokens = encoder.tokens(rows[0])
    assert tokens["heart"] > 0 and list(tokens.values()) == sorted(tokens.values(), reverse=True)
    assert len(tokens) == len(rows[0].ids)

    seen: list[splade_es.LoadProgress] = []
    with splade_es.connect(url) as engine:
        articles = engine.index(name)
        summary = articles.load(
            beir_folder / "corpus.jsonl",
            model=tiny_model,
            alias=engine.name != "local",
            resume=True,
            progress=seen.append,
        )
        assert summary == seen[-1] and summary.indexed == summary.read == 5
        assert summary.index.startswith(name) and summary.previous == ()
        hits = articles.search("heart attack", k=10, filter=None, mode="hybrid")
        assert hits[0].id == "heart" and hits[0].source["text"] == TEXTS["heart"]
        report = articles.evaluate(
            beir_folder, measures="nDCG@10 R@100", split="test", baseline="bm25"
        )
        assert report.measures["nDCG@10"] > 0.5 and report.queries == 2
        assert report.measures.keys() == report.baseline.keys() == report.p_values.keys()
        why = articles.explain("heart attack", hits[0].id)
        (plain,) = [hit for hit in articles.search("heart attack") if hit.id == "heart"]
        assert why.score == pytest.approx(plain.score, rel=1e-6)
        assert sum(part.score for part in why.contributions) == pytest.approx(why.score)


@pytest.mark.usefixtures("home")
def test_training_from_python(tmp_path: Path, tiny_model: str) -> None:
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"query": text.split()[1], "positive": text} for text in TEXTS.values()]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = splade_es.TrainConfig(
        data=str(pairs), model=tiny_model, output=str(tmp_path / "model"), steps=2, batch_size=4,
        doc_length=64,
    )  # fmt: skip
    seen: list[splade_es.TrainProgress] = []
    result = splade_es.train(config, progress=seen.append)
    assert result == seen[-1] and result.step == 2 and result.best
    assert splade_es.Encoder.load(result.output).vocabulary
    assert splade_es.expand("heart", result.output)


@pytest.mark.usefixtures("home")
def test_modes_and_filters(url: str, name: str, tiny_model: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    lines = [
        {"_id": id, "text": text, "site": "cdc" if n % 2 else "nih"}
        for n, (id, text) in enumerate(TEXTS.items())
    ]
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with splade_es.connect(url) as engine:
        articles = engine.index(name)
        articles.load(corpus, tiny_model)
        query = "vitamin milk for the heart"
        found: dict[str, list[splade_es.Hit]] = {
            mode: articles.search(query, mode=mode) for mode in ("splade", "bm25", "hybrid")
        }
        places = [{h.id: n for n, h in enumerate(found[mode], 1)} for mode in ("splade", "bm25")]
        for hit in found["hybrid"]:
            fused = sum(1 / (60 + place[hit.id]) for place in places if hit.id in place)
            assert hit.score == pytest.approx(fused)
            assert hit.source["text"] == TEXTS[hit.id]
        assert all("site" in hit.source for hits in found.values() for hit in hits)
        assert [hit.id for hit in found["bm25"]] == ["bone", "heart"]
        # by words no model is needed, so none is loaded
        assert articles.search(query, mode="bm25", model="nowhere") == found["bm25"]
        for mode in ("splade", "bm25", "hybrid"):
            kept = articles.search(query, mode=mode, filter={"site": "nih"})
            assert {hit.id for hit in kept} == {
                hit.id for hit in found[mode] if hit.id in ("heart", "eye", "flu")
            }
        with pytest.raises(splade_es.SettingsError, match="`mode` is 'dense'"):
            articles.search(query, mode="dense")  # type: ignore[arg-type]


@pytest.mark.usefixtures("home")
def test_a_search_follows_its_alias(url: str, name: str, tiny_model: str, tmp_path: Path) -> None:
    with splade_es.connect(url) as engine:
        if engine.name == "local":
            with pytest.raises(splade_es.EngineError, match="The local engine has no aliases"):
                engine.index(name).load(write(tmp_path, "a", "heart"), tiny_model, alias=True)
            return
        articles = engine.index(name)
        first = articles.load(write(tmp_path, "a", "heart"), tiny_model, alias=True)
        other = engine.index(name)
        assert [hit.id for hit in other.search("heart")] == ["a"]
        second = articles.load(write(tmp_path, "b", "heart"), tiny_model, alias=True, scale=50)
        assert second.previous == (first.index,)
        assert [hit.id for hit in other.search("heart")] == ["b"]
        gone_back = articles.rollback()
        assert (gone_back.index, gone_back.previous) == (first.index, second.index)
        assert [hit.id for hit in other.search("heart")] == ["a"]


def write(folder: Path, id: str, text: str) -> Path:
    path = folder / "corpus.jsonl"
    path.write_text(json.dumps({"_id": id, "text": text}) + "\n")
    return path


@pytest.mark.usefixtures("home")
def test_errors_come_at_the_call(tmp_path: Path, tiny_model: str) -> None:
    """Not at the first step of an iterator, and with the name of the argument."""
    corpus = write(tmp_path, "a", "heart")
    with splade_es.connect() as engine:
        index: Any = engine.index("x")
        public: Any = splade_es
        wrongs: list[tuple[Callable[[], object], str]] = [
            (lambda: public.connect().index(3), "name must be str, not int"),
            (lambda: index.load_steps(3), "corpus must be str or a path, not int"),
            (
                lambda: index.load_steps(corpus, 5),
                "model must be str or a path or TextEncoder or None",
            ),
            (
                lambda: index.load_steps(corpus, tiny_model, scale="1"),
                "scale must be float or None",
            ),
            (
                lambda: index.load_steps(corpus, tiny_model, scales=1),
                "has no argument 'scales'; did",
            ),
            (
                lambda: index.load_steps(corpus, tiny_model, resume=1),
                "resume must be bool, not int",
            ),
            (lambda: index.search(3), "query must be str, not int"),
            (lambda: index.search("a", k="3"), "k must be int, not str"),
            (lambda: index.search("a", filter="x"), "filter must be Mapping or None, not str"),
            (lambda: index.documents("a"), "ids must be Sequence of str, not str"),
            (lambda: index.documents([1]), "ids must be Sequence of str"),
            (
                lambda: index.load(corpus, tiny_model, progress=1),
                "progress must be callable, not int",
            ),
            (
                lambda: public.train_steps(
                    public.TrainConfig(data="d", model="m", output="o"), engine="local"
                ),
                "engine must be Engine or None, not str",
            ),
            (
                lambda: index.backfill_steps("text", tiny_model),
                "fields must be Sequence of str, not str",
            ),
            (lambda: public.connect(3), "url must be str or None, not int"),
            (lambda: public.encode_steps(1, "out", tiny_model), "corpus must be str or a path"),
            (lambda: public.train({}), "config must be TrainConfig, not dict"),
            (lambda: public.expand(1, tiny_model), "text must be str, not int"),
        ]
        for wrong, message in wrongs:
            with pytest.raises(TypeError, match=message):
                wrong()
        refusals: list[tuple[Callable[[], object], type[splade_es.SpladeEsError], str]] = [
            (
                lambda: index.load_steps("nowhere", tiny_model),
                splade_es.CorpusError,
                "no such file",
            ),
            (lambda: index.load_steps(corpus), splade_es.SettingsError, "`model` is missing"),
            (
                lambda: index.load_steps(corpus, tiny_model, recreate=True, resume=True),
                splade_es.SettingsError,
                "`recreate` starts over",
            ),
            (
                lambda: index.load_steps(corpus, tiny_model, scale=-1.0),
                splade_es.ModelError,
                "scale",
            ),
            (
                lambda: index.backfill_steps(["text"], tiny_model),
                splade_es.EngineError,
                "holds no index that others made",
            ),
        ]
        for refused, kind, message in refusals:
            with pytest.raises(kind, match=message):
                refused()
        assert not engine.indices()


@pytest.mark.usefixtures("home")
def test_progress_is_a_new_and_frozen_record_each_time(tmp_path: Path, tiny_model: str) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"_id": f"d{n}", "text": "heart " * 20}) + "\n"
                              for n in range(3000)))  # fmt: skip
    with splade_es.connect() as engine:
        seen = list(engine.index("x").load_steps(corpus, tiny_model))
    assert len({id(record) for record in seen}) == len(seen) > 2
    assert [record.indexed for record in seen] == sorted(record.indexed for record in seen)
    assert seen[0].indexed < seen[-1].indexed == 3000
    record: Any = seen[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.indexed = 1


@pytest.mark.usefixtures("home")
def test_an_error_of_the_callback_ends_the_load_and_can_be_resumed(
    tmp_path: Path, tiny_model: str
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"_id": f"d{n}", "text": "heart " * 20}) + "\n"
                              for n in range(3000)))  # fmt: skip

    def interrupt(progress: splade_es.LoadProgress) -> None:
        if progress.indexed:
            raise KeyboardInterrupt

    with splade_es.connect() as engine:
        index = engine.index("x")
        with pytest.raises(splade_es.Interrupted, match="Continue with `resume`"):
            index.load(corpus, tiny_model, progress=interrupt)
        done = index.load(corpus, tiny_model, resume=True)
        assert 0 < done.resumed < 3000 and done.indexed == 3000 == index.count()


def test_encoding_once_and_indexing_often(tmp_path: Path, home: Path, tiny_model: str) -> None:
    corpus = write(tmp_path, "a", "heart")
    done = splade_es.encode(corpus, tmp_path / "vectors", tiny_model, top_k=3)
    assert (done.documents, done.encoded) == (1, 1)
    exported = splade_es.export(tmp_path / "vectors", "jsonl", tmp_path / "vectors.jsonl")
    assert exported.documents == 1
    with splade_es.connect() as engine:
        assert engine.index("x").load(tmp_path / "vectors").indexed == 1
        assert engine.index("x").stats().documents == 1
        assert engine.index("x").meta().scale == 100
        with pytest.raises(splade_es.SettingsError, match="`top_k` would change nothing"):
            engine.index("x").load(tmp_path / "vectors", top_k=3)
