"""What every engine must do, run unchanged against each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from any_engine import META, SERVERS, action
from splade_es.engines.base import Engine, EngineIndex
from splade_es.engines.connect import connect_engine
from splade_es.errors import EngineError, IndexExists, IndexMissing, QueryError
from splade_es.limits import MAX_CLAUSES, MAX_K
from splade_es.records import Action, Clause, Document, Features, ItemResult


def source(features: Features, text: str = "", **further: Any) -> dict[str, Any]:
    return {"splade": features, "text": text, **further}


def fill(engine: Engine, index: str, documents: dict[str, Features]) -> None:
    results = engine.index(index).bulk([action(id, source(f)) for id, f in documents.items()])
    assert results == [ItemResult(201)] * len(documents)
    engine.index(index).refresh()


def test_an_index_remembers_what_it_was_made_with(engine: Engine, index: str) -> None:
    assert engine.index(index).exists()
    assert engine.index(index).meta() == META
    assert index in engine.indices()
    assert engine.indices() == sorted(engine.indices())
    assert engine.index(index).count() == 0


def test_an_index_is_made_once(engine: Engine, index: str) -> None:
    with pytest.raises(IndexExists, match=f"The index '{index}' already exists on {engine.name}"):
        engine.index(index).create(META)


def test_a_deleted_index_is_gone_and_its_name_free(engine: Engine, index: str) -> None:
    fill(engine, index, {"a": {"heart": 3}})
    engine.index(index).delete()
    assert not engine.index(index).exists()
    assert index not in engine.indices()
    engine.index(index).create(META)
    assert engine.index(index).count() == 0
    assert engine.index(index).search([Clause("heart", 1.0)], 10) == []


@pytest.mark.parametrize(
    "act",
    [
        lambda i: i.meta(),
        lambda i: i.bulk([action("a", source({"heart": 1}))]),
        lambda i: i.refresh(),
        lambda i: i.count(),
        lambda i: i.search([Clause("heart", 1.0)], 10),
        lambda i: i.search([], 10),
        lambda i: i.search_many([[Clause("heart", 1.0)]], 10),
        lambda i: i.search_bm25(["heart"], 10),
        lambda i: i.documents(["a"]),
        lambda i: i.explain([Clause("heart", 1.0)], "a"),
        lambda i: i.stats(),
        lambda i: i.delete(),
    ],
)
def test_an_unknown_index_is_named(engine: Engine, act: Callable[[EngineIndex], object]) -> None:
    with pytest.raises(IndexMissing) as caught:
        act(engine.index("no-such-index"))
    assert "There is no index 'no-such-index' on" in caught.value.message
    assert caught.value.hint == "Check the name, or load a corpus into it first."
    assert not engine.index("no-such-index").exists()


@pytest.mark.parametrize("name", ["", "Upper", "a*", "*", "a,b", "_all", "-a", "a b", "../a", "."])
def test_what_is_no_index_name_is_refused(engine: Engine, name: str) -> None:
    index = engine.index(name)
    for act in (index.delete, index.count, lambda: index.create(META)):
        with pytest.raises(EngineError, match="is not a valid index name"):
            act()


def test_bulk_answers_each_action_in_order(engine: Engine, index: str) -> None:
    first = engine.index(index).bulk([action(id, source({"heart": 1})) for id in ("b", "a")])
    assert first == [ItemResult(201), ItemResult(201)]
    second = engine.index(index).bulk(
        [
            action("new", source({"heart": 2})),
            action("a", source({"heart": 3})),
            Action("b", None),
            Action("never", None),
        ],
    )
    assert [result.status for result in second] == [201, 200, 200, 404]
    engine.index(index).refresh()
    assert engine.index(index).count() == 2
    hits = engine.index(index).search([Clause("heart", 1.0)], 10)
    assert [(hit.id, hit.score) for hit in hits] == [("a", 3.0), ("new", 2.0)]
    assert engine.index(index).bulk([]) == []


@pytest.mark.parametrize("weight", [0, -1, float("inf")])
def test_one_bad_document_is_rejected_and_the_rest_indexed(
    engine: Engine, index: str, weight: Any
) -> None:
    results = engine.index(index).bulk(
        [
            action("a", source({"heart": 1})),
            action("bad", source({"heart": 1, "zero": weight})),
            action("c", source({"heart": 2})),
        ],
    )
    assert [result.status for result in results] == [201, 400, 201]
    assert results[1].reason
    engine.index(index).refresh()
    assert [hit.id for hit in engine.index(index).search([Clause("heart", 1.0)], 10)] == ["c", "a"]


def test_a_document_without_features_counts_and_never_matches(engine: Engine, index: str) -> None:
    fill(engine, index, {"empty": {}, "a": {"heart": 1}})
    assert engine.index(index).count() == 2
    assert [hit.id for hit in engine.index(index).search([Clause("heart", 1.0)], 10)] == ["a"]


def test_a_document_of_the_same_id_is_replaced(engine: Engine, index: str) -> None:
    fill(engine, index, {"a": {"heart": 7, "lung": 1}})
    engine.index(index).bulk([action("a", source({"liver": 2}, "new text", title="New"))])
    engine.index(index).refresh()
    assert engine.index(index).count() == 1
    assert engine.index(index).search([Clause("heart", 1.0), Clause("lung", 1.0)], 10) == []
    (hit,) = engine.index(index).search([Clause("liver", 1.0)], 10)
    assert (hit.id, hit.score) == ("a", 2.0)
    assert hit.source["title"] == "New"
    assert hit.source["text"] == "new text"


def test_hits_carry_their_fields_without_the_vector(engine: Engine, index: str) -> None:
    fields = {
        "title": "Pump",
        "splade_top": ["heart", "lung"],
        "splade_new": ["lung"],
        "splade_view": "heart:3 lung:1",
        "splade_n": 2,
        "splade_max": 3.0,
        "year": 1999,
        "tags": ["x", "y"],
    }
    engine.index(index).bulk([action("a", source({"heart": 3, "lung": 1}, "The heart.", **fields))])
    engine.index(index).refresh()
    (hit,) = engine.index(index).search([Clause("heart", 2.0)], 1)
    assert hit.source == {"text": "The heart.", **fields}


def test_a_field_of_another_type_does_not_lose_the_document(engine: Engine, index: str) -> None:
    actions = [
        action("a", source({"heart": 3}, year=1999)),
        action("b", source({"heart": 2}, year="around 1900")),
        action("c", source({"heart": 1}, year="2001-01-01")),
    ]
    assert engine.index(index).bulk(actions) == [ItemResult(201)] * 3
    engine.index(index).refresh()
    years = [hit.source["year"] for hit in engine.index(index).search([Clause("heart", 1.0)], 10)]
    assert years == [1999, "around 1900", "2001-01-01"]


ODD = ["a%2Eb", "%25", "%2E", "##ing", "Ġhello", "▁hello", "[CLS]", "*", "?", "/", '"', "\\", " "]
ODD += [
    "#",
    ":",
    "$",
    "_id",
    "null",
    "1",
    "心",
    "ع",
    "é",
    "e\u0301",
    "😀",
    "\u200b",
    "\x7f",
    "a" * 99,
]


def test_every_feature_name_finds_its_own_document_only(engine: Engine, index: str) -> None:
    fill(engine, index, {f"doc-{n}": {feature: n + 1} for n, feature in enumerate(ODD)})
    found = engine.index(index).search_many([[Clause(feature, 1.0)] for feature in ODD], 10)
    assert found == [[(f"doc-{n}", n + 1.0)] for n in range(len(ODD))]
    assert engine.index(index).explain([Clause(feature, 1.0) for feature in ODD], "doc-0") == {
        ODD[0]: 1.0
    }


def test_document_ids_come_back_as_given(engine: Engine, index: str) -> None:
    ids = ["a/b?c#d", "with space", "ünïcödé", "_odd", "x" * 512, "007", '"quoted"']
    fill(engine, index, {id: {"heart": n + 1} for n, id in enumerate(ids)})
    hits = engine.index(index).search([Clause("heart", 1.0)], 10)
    assert [hit.id for hit in hits] == ids[::-1]
    (found,) = engine.index(index).search_many([[Clause("heart", 1.0)]], 10)
    assert [hit.id for hit in found] == ids[::-1]
    assert [engine.index(index).explain([Clause("heart", 1.0)], id) for id in ids] == [
        {"heart": n + 1.0} for n in range(len(ids))
    ]


@pytest.fixture(scope="module")
def collection() -> tuple[dict[str, Features], Any, list[str]]:
    """1,000 documents of about 60 of 2,000 features, as features and as a matrix."""
    random = np.random.default_rng(7)
    names = [f"t{n}" for n in range(2000)]
    popularity = 1 / np.arange(1, 2001)
    matrix = np.zeros((1000, 2000))
    documents = {}
    for row in range(1000):
        columns = random.choice(2000, 60, replace=False, p=popularity / popularity.sum())
        matrix[row, columns] = random.integers(1, 513, 60)
        documents[str(row)] = {names[column]: int(matrix[row, column]) for column in columns}
    return documents, matrix, names


def test_scores_are_the_dot_products(
    engine: Engine, index: str, collection: tuple[dict[str, Features], Any, list[str]]
) -> None:
    documents, matrix, names = collection
    fill(engine, index, documents)
    assert engine.index(index).count() == 1000
    random = np.random.default_rng(8)
    for exact in (True, False):
        queries, expected = [], []
        for _ in range(50):
            columns = random.choice(2000, 20, replace=False)
            boosts = random.integers(1, 10, 20) if exact else random.gamma(1.0, 0.01, 20)
            boosts = boosts.astype(np.float32).astype(float)  # as the server reads them
            queries.append([Clause(names[c], b) for c, b in zip(columns, boosts, strict=True)])
            expected.append(matrix[:, columns] @ boosts)
        for scores, found, clauses in zip(
            expected, engine.index(index).search_many(queries, 100), queries, strict=True
        ):
            best = np.sort(scores[scores > 0])[::-1][:100]
            by_rank = [hit.score for hit in found]
            by_id = [scores[int(hit.id)] for hit in found]  # so ties may come in any order
            tolerance = 0 if exact else 1e-6
            np.testing.assert_allclose(by_rank, best, rtol=tolerance)
            np.testing.assert_allclose(by_rank, by_id, rtol=tolerance)
            one = engine.index(index).search(clauses, 100)
            assert [hit.score for hit in one] == by_rank


def test_explanations_add_up_to_the_score(engine: Engine, index: str) -> None:
    fill(engine, index, {"a": {"heart": 214, "lung": 80, "liver": 9}, "b": {"bone": 1}})
    clauses = [Clause("heart", 0.0123), Clause("lung", 0.7), Clause("bone", 2.0)]
    (hit,) = engine.index(index).search(clauses[:2], 10)
    explained = engine.index(index).explain(clauses, "a")
    assert explained == pytest.approx({"heart": 214 * 0.0123, "lung": 56.0}, rel=1e-6)
    assert sum(explained.values()) == pytest.approx(hit.score, rel=1e-6)
    assert engine.index(index).explain([Clause("tooth", 1.0)], "a") == {}
    assert engine.index(index).explain([], "a") == {}
    with pytest.raises(QueryError, match=f"no document 'c' in the index '{index}'"):
        engine.index(index).explain(clauses, "c")


def test_a_query_of_nothing_finds_nothing(engine: Engine, index: str) -> None:
    fill(engine, index, {"a": {"heart": 1}})
    unknown, heart = [Clause("tooth", 1.0)], [Clause("heart", 1.0)]
    assert engine.index(index).search([], 10) == []
    assert engine.index(index).search(unknown, 10) == []
    assert engine.index(index).search_many([], 10) == []
    assert engine.index(index).search_many([[]], 10) == [[]]
    assert engine.index(index).search_many([[], heart, unknown, heart, []], 10) == [
        [],
        [("a", 1.0)],
        [],
        [("a", 1.0)],
        [],
    ]


def test_many_queries_come_back_in_order(engine: Engine, index: str) -> None:
    fill(engine, index, {str(n): {f"t{n}": 1} for n in range(150)})
    found = engine.index(index).search_many([[Clause(f"t{n}", 2.0)] for n in range(150)], 10)
    assert found == [[(str(n), 2.0)] for n in range(150)]


def test_as_many_clauses_as_allowed(engine: Engine, index: str) -> None:
    fill(engine, index, {"a": {f"t{n}": 1 for n in range(MAX_CLAUSES)}})
    clauses = [Clause(f"t{n}", 1.0) for n in range(MAX_CLAUSES)]
    assert [hit.score for hit in engine.index(index).search(clauses, 10)] == [MAX_CLAUSES]
    assert engine.index(index).search_many([clauses], 10) == [[("a", MAX_CLAUSES)]]
    assert len(engine.index(index).explain(clauses, "a")) == MAX_CLAUSES
    with pytest.raises(QueryError, match="The query has 1,001 terms, and 1,000 is the limit"):
        engine.index(index).search([*clauses, Clause("one more", 1.0)], 10)


def test_k_has_bounds(engine: Engine, index: str) -> None:
    fill(engine, index, {str(n): {"heart": n + 1} for n in range(30)})
    heart = [Clause("heart", 1.0)]
    assert [hit.id for hit in engine.index(index).search(heart, 3)] == ["29", "28", "27"]
    assert len(engine.index(index).search(heart, MAX_K)) == 30
    assert len(engine.index(index).search_many([heart], MAX_K)[0]) == 30
    for k in (0, -1, MAX_K + 1):
        for act in (
            lambda: engine.index(index).search(heart, k),  # noqa: B023  called in this very turn
            lambda: engine.index(index).search_many([heart], k),  # noqa: B023
            lambda: engine.index(index).search_bm25(["heart"], k),  # noqa: B023
        ):
            with pytest.raises(QueryError, match=f"`k` is {k}. Ask for 1 to 10,000 results"):
                act()


@pytest.mark.parametrize("boost", [0.0, -1.0, float("nan"), float("inf")])
def test_a_boost_is_a_positive_number(engine: Engine, index: str, boost: float) -> None:
    with pytest.raises(QueryError, match="The boost of 'heart' is"):
        engine.index(index).search([Clause("heart", boost)], 10)


def test_match_searches_title_and_text(engine: Engine, index: str) -> None:
    engine.index(index).bulk(
        [
            action("text", source({}, "The pump of the body", title="Anatomy")),
            action("title", source({}, "It moves the blood.", title="The pump")),
            action("none", source({"pump": 9}, "Something else altogether")),
        ],
    )
    engine.index(index).refresh()
    pump, stop_words, unknown = engine.index(index).search_bm25(["Pump", "the of", "zebra"], 10)
    assert {hit.id for hit in pump} == {"text", "title"}
    assert all(hit.score > 0 for hit in pump)
    assert stop_words == unknown == []
    (both,) = engine.index(index).search_bm25(["pump blood"], 1)
    assert [hit.id for hit in both] == ["title"]
    assert engine.index(index).search_bm25([], 10) == []


def test_match_scores_are_bm25(engine: Engine, index: str) -> None:
    """k1 0.9, b 0.4, idf = ln(1 + (N - n + 0.5) / (n + 0.5)): the order depends on all three."""
    texts = ["pump", "pump pump valve", "valve " * 8 + "pump", "bone", "bone valve"]
    engine.index(index).bulk([action(str(n), source({}, text)) for n, text in enumerate(texts)])
    engine.index(index).refresh()
    (found,) = engine.index(index).search_bm25(["pump"], 10)
    mean = sum(len(text.split()) for text in texts) / 5
    expected = {}
    for n, text in enumerate(texts[:3]):
        tf, length = text.split().count("pump"), len(text.split())
        idf = np.log(1 + (5 - 3 + 0.5) / (3 + 0.5))
        expected[str(n)] = idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * length / mean))
    scores = {hit.id: hit.score for hit in found}
    ratio = scores["0"] / expected["0"]  # Lucene leaves out the constant factor k1 + 1
    assert scores == pytest.approx({id: ratio * s for id, s in expected.items()}, rel=1e-4)


def test_documents_come_by_id_as_they_were_loaded(engine: Engine, index: str) -> None:
    fields = {"title": "Pump", "year": 1999, "splade_view": "heart:3"}
    actions = [action("a", source({"heart": 3}, "The heart.", **fields))]
    actions += [action(f"{n:04}", source({"heart": 1}, f"text {n}")) for n in range(1100)]
    engine.index(index).bulk(actions)
    engine.index(index).refresh()
    assert engine.index(index).documents(["0007", "none", "a"]) == [
        Document("0007", "text 7"),
        Document("a", "The heart.", "Pump", {"year": 1999}),
    ]
    many = [f"{n:04}" for n in reversed(range(1100))]  # of several requests
    assert [document.id for document in engine.index(index).documents(many)] == many
    assert engine.index(index).documents([]) == []


def test_frequencies_count_the_documents_of_each_feature(engine: Engine, index: str) -> None:
    fill(
        engine, index, {str(n): {"heart": 1, **({"rare": 512} if n == 3 else {})} for n in range(9)}
    )
    assert engine.index(index).document_frequencies(["rare", "none", "heart"]) == [1, 0, 9]
    assert (
        engine.index(index).document_frequencies(["heart"] * 700) == [9] * 700
    )  # of several requests
    engine.index(index).bulk([Action("3", None)])
    engine.index(index).refresh()
    assert engine.index(index).document_frequencies(["rare", "heart"]) == [0, 8]


def test_stats_say_what_is_there(engine: Engine, index: str) -> None:
    fill(engine, index, {str(n): {"heart": n + 1} for n in range(20)})
    stats = engine.index(index).stats()
    assert stats.documents == 20
    assert stats.bytes > 0
    assert stats.field_type


def test_closing_twice_is_safe(
    request: pytest.FixtureRequest, engine: Engine, tmp_path: Path
) -> None:
    name = request.node.callspec.params["engine"]
    url = f"local:{tmp_path}" if name == "local" else request.getfixturevalue(SERVERS[name])
    another = connect_engine(url)
    assert (another.name, another.version) == (engine.name, engine.version)
    assert another.where == (str(tmp_path) if name == "local" else engine.where)
    another.close()
    another.close()


def test_a_filter_keeps_what_has_one_of_the_values(engine: Engine, index: str) -> None:
    documents = engine.index(index)
    rows: dict[str, dict[str, Any]] = {
        "a": {"site": "cdc", "year": 2020, "open": True},
        "b": {"site": "cdc", "year": 2021, "open": False},
        "c": {"site": "nih", "year": 2021, "tags": ["x", "y"]},
        "d": {"text": "pump"},
        "e": {"site": "s" * 300},
    }
    documents.bulk(
        [action(id, source({"heart": n + 1}, **{"text": "pump", **f})) for n, (id, f) in
         enumerate(rows.items())]
    )  # fmt: skip
    documents.refresh()
    heart = [Clause("heart", 2.0)]
    cases: list[tuple[Any, list[str]]] = [
        ({"site": "cdc"}, ["b", "a"]),
        ({"site": ["cdc", "nih"]}, ["c", "b", "a"]),
        ({"year": 2021}, ["c", "b"]),
        ({"year": [2020, 2021], "site": "cdc"}, ["b", "a"]),
        ({"open": True}, ["a"]),
        ({"tags": "y"}, ["c"]),
        ({"site": "CDC"}, []),
        ({"site": "s" * 300}, []),
        ({"unknown": "x"}, []),
        ({}, ["e", "d", "c", "b", "a"]),
    ]
    for filter, expected in cases:
        hits = documents.search(heart, 10, filter=filter, contributions=True)
        assert [hit.id for hit in hits] == expected, filter
        assert all(hit.contributions == {"heart": hit.score} for hit in hits)
        (found,) = documents.search_many([heart], 10, filter=filter)
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in hits]
        (words,) = documents.search_bm25(["pump"], 10, filter=filter)
        assert sorted(hit.id for hit in words) == sorted(expected), filter
        assert len(documents.search(heart, 1, filter=filter)) == min(1, len(expected))
    odd: list[Any] = [None, [1, None], float("nan"), {}]
    for wanted in odd:
        with pytest.raises(QueryError, match="A filter cannot compare 'year' with"):
            documents.search(heart, 10, filter={"year": wanted})
    for name in ("title", "text", "splade_top", "_id"):
        with pytest.raises(QueryError, match=f"A filter cannot compare the field '{name}'"):
            documents.search(heart, 10, filter={name: "x"})
