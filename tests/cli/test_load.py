"""The life of an index: loaded again, resumed, behind an alias, gone back, made smaller."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from any_engine import write_corpus
from command_line import run
from models import TEXTS
from splade_es.engines.base import Engine, EngineIndex
from splade_es.engines.connect import connect_engine
from splade_es.engines.local_index import LocalIndex
from splade_es.engines.server import ServerEngine
from splade_es.engines.server_admin import ServerSettings
from splade_es.engines.server_index import ServerIndex
from splade_es.errors import EngineError, Unavailable
from splade_es.records import Action, ItemResult

pytestmark = pytest.mark.usefixtures("home")


def let_go(engine: Engine) -> None:
    """Give up the lock on a local index, for the commands; the engine opens it again."""
    if engine.name == "local":
        engine.close()


def url_of(engine: Engine, request: pytest.FixtureRequest) -> str:
    if engine.name == "local":
        return f"local:{engine.where}"
    url: str = request.getfixturevalue(f"{engine.name}_url")
    return url


@pytest.fixture
def url(engine: Engine, request: pytest.FixtureRequest) -> str:
    let_go(engine)
    return url_of(engine, request)


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    name = f"load-{uuid.uuid4().hex[:8]}"
    yield name
    for index in engine.indices():
        if index.startswith(name):
            engine.index(index).delete()
    let_go(engine)


def load(corpus: Path, model: str, *args: object) -> dict[str, Any]:
    result = run("index", corpus, "--model", model, "--json", *args)
    assert result.exit_code == 0, result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def settings_of(index: EngineIndex) -> dict[str, Any]:
    assert index.settings
    return index.settings.read()


def counts(summary: dict[str, Any]) -> tuple[int, int, int, int]:
    return summary["indexed"], summary["unchanged"], summary["replaced"], summary["deleted"]


def test_only_what_has_changed_is_encoded_and_what_is_gone_is_deleted(
    engine: Engine, url: str, name: str, tiny_model: str, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", TEXTS)
    to = ("--index", name, "--url", url)
    assert counts(load(corpus, tiny_model, *to)) == (5, 0, 0, 0)
    texts = {**TEXTS, "bone": "Milk for the heart.", "new": "A rash of the skin."}
    del texts["eye"]
    write_corpus(corpus, texts)
    assert counts(load(corpus, tiny_model, *to)) == (2, 3, 1, 0)
    assert counts(load(corpus, tiny_model, *to, "--delete-missing", "--max-shrink", 0.2)) == (
        0,
        5,
        0,
        1,
    )
    assert sorted(engine.index(name).ids()) == sorted(texts)
    let_go(engine)
    # vectors that are cut another way are others, though the texts are the same
    assert counts(load(corpus, tiny_model, *to, "--top-k", 3)) == (5, 0, 5, 0)
    # of two documents with one id the last wins, even if it is the one that is there
    with corpus.open("a") as file:
        for text in ("Milk.", "Milk for the heart."):
            file.write(json.dumps({"_id": "bone", "text": text}) + "\n")
    load(corpus, tiny_model, *to, "--top-k", 3)
    (bone,) = engine.index(name).documents(["bone"])
    assert bone.text == "Milk for the heart."
    let_go(engine)


def test_nothing_is_deleted_after_a_bad_line(
    engine: Engine, url: str, name: str, tiny_model: str, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", TEXTS)
    load(corpus, tiny_model, "--index", name, "--url", url)
    corpus.write_text('{"_id": "heart"}\n{"_id": "bone", "text": "x"}\n')
    result = run(
        *("index", corpus, "--model", tiny_model, "--index", name, "--url", url),
        "--delete-missing",
    )
    assert result.exit_code == 1 and "Nothing was deleted" in result.stderr
    assert engine.index(name).count() == 5
    let_go(engine)


@pytest.mark.parametrize("server", ["opensearch_url", "elasticsearch_url"])
def test_an_alias_is_swapped_and_goes_back(
    server: str, request: pytest.FixtureRequest, tiny_model: str, tmp_path: Path
) -> None:
    url = request.getfixturevalue(server)
    alias = f"alias-{uuid.uuid4().hex[:8]}"
    corpus = write_corpus(tmp_path / "c.jsonl", TEXTS)
    to = ("--alias", alias, "--url", url, "--max-shrink", "1")
    first = load(corpus, tiny_model, *to)["index"]
    assert first.startswith(f"{alias}-2") and first.endswith("-1")
    write_corpus(corpus, {"only": "heart attack"})
    second = load(corpus, tiny_model, *to)["index"]
    assert second == first[:-1] + "2"

    def found() -> int:
        hits = run("search", "heart", "--index", alias, "--url", url, "--json", "-k", 9)
        assert hits.exit_code == 0, hits.stderr
        return len(hits.stdout.splitlines())

    assert found() == 1
    back = run("rollback", "--alias", alias, "--url", url)
    assert back.stdout == f"{alias} points to {first}, no longer to {second}\n"
    assert found() > 1
    again = run("rollback", "--alias", alias, "--url", url)
    assert again.exit_code == 1
    assert f"There is no index of '{alias}' from before {first}" in again.stderr

    engine = connect_engine(url)
    assert settings_of(engine.index(first))["auto_expand_replicas"] == "0-1"
    # a load that fails leaves the alias where it is
    real = ServerIndex.explain

    def wrong(self: ServerIndex, *args: Any) -> dict[str, float]:
        return {name: 2 * score for name, score in real(self, *args).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerIndex, "explain", wrong)
        failed = run("index", corpus, "--model", tiny_model, *to)
    assert failed.exit_code == 1 and "scores the document 'only' with" in failed.stderr
    assert "It was not published, and what is live stays as it is." in failed.stderr
    pointed = engine.index(alias).alias
    assert pointed and pointed.targets() == [first]
    resumed = load(corpus, tiny_model, *to, "--resume")  # nothing to resume: it is built anew
    assert resumed["resumed"] == 0 and pointed.targets() == [resumed["index"]]
    back = run("rollback", "--alias", alias, "--url", url)  # not to the one that failed
    assert back.stdout == f"{alias} points to {first}, no longer to {resumed['index']}\n"

    taken = run("index", corpus, "--model", tiny_model, "--alias", first, "--url", url)
    assert taken.exit_code == 1 and f"'{first}' is an index on" in taken.stderr
    foreign = run("rollback", "--alias", first, "--url", url)
    assert "is not an alias on" in foreign.stderr
    for index in engine.indices():
        if index.startswith(alias):
            engine.index(index).delete()
    engine.close()


def test_the_local_engine_has_no_aliases(tiny_model: str, corpus_file: Path) -> None:
    result = run("index", corpus_file, "--model", tiny_model, "--alias", "a")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: The local engine has no aliases. Connect to a server."
    )
    wrong = run("index", corpus_file, "--model", tiny_model, "--alias", "a", "--index", "b")
    assert wrong.exit_code == 2 and "Give --index, or --alias" in wrong.stderr
    assert not list(corpus_file.parent.glob("*.journal"))


@pytest.mark.parametrize("server", ["opensearch_url", "elasticsearch_url"])
def test_without_vectors_in_source_searches_are_the_same(
    server: str, request: pytest.FixtureRequest, tiny_model: str, corpus_file: Path
) -> None:
    url = request.getfixturevalue(server)
    engine = connect_engine(url)
    assert isinstance(engine, ServerEngine)
    found = {}
    for source in ("full", "no-vectors"):
        index = f"{source}-{uuid.uuid4().hex[:8]}"
        load(corpus_file, tiny_model, "--index", index, "--url", url, "--source", source)
        hits = run("search", "heart milk", "--index", index, "--url", url, "--json")
        found[source] = [json.loads(line) for line in hits.stdout.splitlines()]
        assert counts(load(corpus_file, tiny_model, "--index", index, "--url", url)) == (0, 5, 0, 0)
        body = {"_source": {"exclude_vectors": False}} if engine.name == "elasticsearch" else {}
        stored = engine.request("POST", f"/{index}/_search", body)["hits"]["hits"][0]["_source"]
        assert ("splade" in stored) == ("splade_view" in stored) == (source == "full")
        info = json.loads(run("info", "--index", index, "--url", url, "--json").stdout)
        assert sum(info["parts"].values()) == pytest.approx(info["bytes"], rel=0.2)
        assert "bytes" in run("info", "--index", index, "--url", url).stdout
        engine.index(index).delete()
    for hit in found["full"]:
        del hit["source"]["splade_view"], hit["source"]["splade_hash"]  # they follow a vector
    for hit in found["full"] + found["no-vectors"]:
        del hit["source"]["splade_at"]
    assert found["full"] == found["no-vectors"]
    assert found["full"][0]["source"]["splade_top"] and found["full"][0]["source"]["text"]
    engine.close()


@pytest.mark.parametrize("server", ["opensearch_url", "elasticsearch_url"])
def test_exactly_the_bad_documents_are_set_aside_and_mended(
    server: str, request: pytest.FixtureRequest, tiny_model: str, tmp_path: Path
) -> None:
    url = request.getfixturevalue(server)
    index = f"bad-{uuid.uuid4().hex[:8]}"
    corpus = tmp_path / "c.jsonl"
    kinds = [  # one of every hundred documents, of each kind in turn
        '{{"_id": "d{n}", "text": "heart", ".": "a name that no server takes"}}',
        '{{"_id": "' + "long" * 200 + '{n}", "text": "heart"}}',
        '{{"_id": "d{n}", "text": "heart", "weight": NaN}}',
    ]
    bad = {n: kinds[n // 100 % 3].format(n=n) for n in range(50, 3000, 100)}
    lines = [bad.get(n, json.dumps({"_id": f"d{n}", "text": "heart", "o": {"k": 1}}))
             for n in range(3000)]  # fmt: skip
    corpus.write_text("\n".join(lines) + "\n")
    to = ("--model", tiny_model, "--index", index, "--url", url)
    result = run("index", corpus, *to, "--json")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: 30 of 3,000 lines were rejected")
    summary = json.loads(result.stdout)
    assert (summary["indexed"], summary["rejected"]) == (2970, 30)
    rejects = [json.loads(x) for x in Path("c.jsonl.rejects.jsonl").read_text().splitlines()]
    assert sorted(reject["place"] for reject in rejects) == sorted(f"{corpus}:{n + 1}" for n in bad)
    assert not list(tmp_path.glob("*.journal"))
    mended = tmp_path / "mended.jsonl"
    mended.write_text("".join(f'{{"_id": "d{n}", "text": "mended"}}\n' for n in bad))
    assert load(mended, *to[1:])["indexed"] == 30
    engine = connect_engine(url)
    assert sorted(engine.index(index).ids()) == sorted(f"d{n}" for n in range(3000))
    engine.index(index).delete()
    engine.close()


class Dies(LocalIndex):
    """Takes two requests, and then nothing more."""

    requests = 0

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        Dies.requests += 1
        if Dies.requests > 2:
            raise EngineError("The disk is full")
        return super().bulk(actions)


def test_a_load_that_failed_is_resumed(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", {f"d{n}": "heart attack" for n in range(4000)})
    args = ("index", corpus, "--model", tiny_model, "--index", "x")
    with monkeypatch.context() as patch:
        patch.setattr("splade_es.engines.local.LocalIndex", Dies)
        failed = run(*args)
    assert failed.stderr.splitlines()[-1] == (
        "Error: The disk is full. What was acknowledged is loaded; continue with --resume."
    )
    journal = tmp_path / "c.jsonl.x.journal"
    again = run(*args)
    assert again.exit_code == 1 and f"{journal}: an earlier load into " in again.stderr
    assert "Continue it with --resume, or delete this file to start over." in again.stderr
    other = run(*args, "--resume", "--top-k", 5)
    assert "with another setting" in other.stderr
    resumed = load(corpus, *args[3:], "--resume")
    assert 0 < resumed["resumed"] < 4000
    assert (resumed["read"], resumed["indexed"]) == (4000, 4000)
    assert not journal.exists()
    fresh = load(corpus, *args[3:], "--resume")  # nothing to resume: it begins
    assert (fresh["resumed"], fresh["unchanged"]) == (0, 4000)


def test_settings_of_a_killed_load_are_restored_by_the_one_that_resumes_it(
    opensearch_url: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", TEXTS)
    index = f"left-{uuid.uuid4().hex[:8]}"
    args = ("index", corpus, "--model", tiny_model, "--index", index, "--url", opensearch_url)
    engine = connect_engine(opensearch_url)
    with monkeypatch.context() as patch:  # dead before it could restore anything

        def gone(*args: object) -> None:
            raise Unavailable("No answer")

        patch.setattr("splade_es.indexing.bulk_sender.BulkSender.finish", gone)
        write = ServerSettings.write
        patch.setattr(
            ServerSettings,
            "write",
            lambda self, settings, timeout=None: (
                write(self, settings) if settings["refresh_interval"] == "-1" else gone()
            ),
        )
        failed = run(*args, "--no-replicas")
    assert "is left with refresh_interval -1" in failed.stderr
    settings = settings_of(engine.index(index))
    assert settings["refresh_interval"] == "-1" and settings["auto_expand_replicas"] == "false"
    assert run(*args, "--resume").exit_code == 0
    settings = settings_of(engine.index(index))
    assert settings.get("refresh_interval") is None and settings["auto_expand_replicas"] == "0-1"
    engine.index(index).delete()
    engine.close()
