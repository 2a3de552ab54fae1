"""Mining: what is no negative, what is drawn, what is written, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from any_engine import META, action, write_corpus
from models import TEXTS
from splade_es.engines.base import Engine
from splade_es.engines.connect import connect_engine
from splade_es.errors import CorpusError, IndexMissing, SettingsError, SpladeEsError
from splade_es.index_handle import Index
from splade_es.progress import MineProgress
from splade_es.records import Query
from splade_es.search.searcher import Searcher
from splade_es.training.mining import MineSettings, mine_steps

#: Ten documents that BM25 ranks d0, d1, ... for "heart": of one length, with fewer and fewer of it.
RANKED = {f"d{n}": "heart " * (12 - n) + "bone " * n for n in range(10)}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def fill(engine: Engine, index: str, documents: dict[str, str]) -> None:
    engine.index(index).bulk([action(id, {"splade": {}, "text": t}) for id, t in documents.items()])
    engine.index(index).refresh()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Engine]:
    """A local engine with RANKED in its index "ranked"."""
    engine = connect_engine(f"local:{tmp_path / 'home'}")
    engine.index("ranked").create(META)
    fill(engine, "ranked", RANKED)
    yield engine
    engine.close()


def mined(
    engine: Engine, data: str, output: Path, batch_queries: int = 64, **settings: Any
) -> list[dict[str, Any]]:
    """The lines that BM25 gives, checked against the counts."""
    by_bm25: Any = {"mode": "bm25", **settings}
    index = engine.index("ranked")
    counts = list(mine_steps(index, data, str(output), by_bm25, batch_queries=batch_queries))[-1]
    lines = read(output)
    negatives = [len(line.get("negatives", [])) for line in lines]
    assert counts == MineProgress(
        total=len({line["query"] for line in lines}),
        queries=len({line["query"] for line in lines}),
        lines=len(lines),
        negatives=sum(negatives),
        bare=negatives.count(0),
    )
    return lines


def test_negatives_are_hits_below_the_top_that_are_no_positives(
    engine: Engine, index: str, tmp_path: Path
) -> None:
    fill(engine, index, RANKED)
    engine.index(index).bulk([action("e", {"splade": {}, "title": "Bone", "text": "heart"})])
    engine.index(index).refresh()
    pairs = write(
        tmp_path / "pairs.jsonl",
        {"query": "heart", "positive": "unlike the index's", "positive_id": "d1"},
        {"query": "zebra", "positive": "a striped horse"},
    )
    output = tmp_path / "mined.jsonl"
    settings: MineSettings = {"mode": "bm25", "skip_top": 2, "negatives": 0}
    (counts,) = mine_steps(engine.index(index), pairs, str(output), settings)
    assert counts == MineProgress(total=2, queries=2, lines=2, negatives=8, bare=1)
    heart, zebra = read(output)
    assert heart["negative_ids"] == [*(f"d{n}" for n in range(3, 10)), "e"]
    assert heart["negatives"] == [*(RANKED[f"d{n}"] for n in range(3, 10)), "Bone heart"]
    assert (heart["positive"], heart["positive_id"]) == ("unlike the index's", "d1")
    assert zebra == {"query": "zebra", "positive": "a striped horse"}


def test_the_model_of_the_index_searches(engine: Engine, tiny_model: str, tmp_path: Path) -> None:
    index = Index(engine, f"mining-{tmp_path.name.replace('_', '-')}".lower())
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    index.load(corpus, tiny_model, rejects=str(tmp_path / "rejects"))
    try:
        searcher = Searcher(engine.index(index.name))
        (ranked,) = searcher.run([Query("q", "heart attack")], 4).values()
        pairs = write(tmp_path / "pairs.jsonl", {"query": "heart attack", "positive": "x"})
        output = str(tmp_path / "mined.jsonl")
        index.mine(pairs, output, depth=4, skip_top=1, negatives=0)
    finally:
        index.delete()
    (line,) = read(tmp_path / "mined.jsonl")
    assert line["negative_ids"] == list(ranked)[1:]
    assert line["negatives"] == [TEXTS[id] for id in list(ranked)[1:]]


def test_all_positives_of_a_query_are_known_wherever_they_stand(
    local: Engine, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl.gz"
    rows = [
        {"query": "heart", "positive": "one", "positive_id": "d0", "scores": [1], "negative": "n"},
        {"query": "bone", "positive": "two", "positive_ids": ["d9", 8]},
        {"query": "heart", "positive": "three", "positive_id": "d5", "positive_ids": ["d5", "d6"]},
        {"query": "heart", "positive": "one", "positive_id": "d7"},
    ]
    pairs.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    first, second, bone = mined(
        local, str(pairs), tmp_path / "out.jsonl", skip_top=0, negatives=0, depth=9
    )
    rest = ["d1", "d2", "d3", "d4", "d8"]
    assert first == {
        "query": "heart",
        "positive": "one",
        "positive_id": "d0",
        "positive_ids": ["d0", "d5", "d6", "d7"],
        "negatives": [RANKED[id] for id in rest],
        "negative_ids": rest,
    }
    assert (second["positive"], second["positive_id"]) == ("three", "d5")
    assert second["positive_ids"] == ["d5", "d0", "d6", "d7"]
    assert second["negative_ids"] == rest
    assert (bone["positive_id"], bone["positive_ids"]) == ("d9", ["d9", "8"])
    assert bone["negative_ids"] == ["d8", "d7", "d6", "d5", "d4", "d3", "d2", "d1"]


def test_a_hit_with_the_text_of_a_positive_is_one(local: Engine, tmp_path: Path) -> None:
    local.index("ranked").bulk([action("copy", {"splade": {}, "title": "T", "text": RANKED["d0"]})])
    local.index("ranked").refresh()
    pairs = write(
        tmp_path / "pairs.jsonl",
        {"query": "heart", "positive": RANKED["d0"]},
        {"query": "Heart", "positive": f"T {RANKED['d0']}"},
    )
    text, body = mined(local, pairs, tmp_path / "out.jsonl", skip_top=0, negatives=0)
    assert text["positive_id"] in text["positive_ids"]
    assert sorted(text["positive_ids"]) == ["copy", "d0"]
    assert text["negative_ids"] == [f"d{n}" for n in range(1, 10)]
    assert body["positive_ids"] == ["copy"]
    assert body["negative_ids"] == [f"d{n}" for n in range(10)]


def test_the_draw_depends_on_the_seed_and_the_query_alone(local: Engine, tmp_path: Path) -> None:
    rows = [
        {"query": query, "positive": f"about {query}"}
        for query in ("heart", "Heart", "heart bone", "bone heart")
    ]
    pairs = write(tmp_path / "pairs.jsonl", *rows)
    settings = {"skip_top": 1, "negatives": 3}
    lines = mined(local, pairs, tmp_path / "a.jsonl", **settings)
    assert [line["query"] for line in lines] == [row["query"] for row in rows]
    for line in lines:
        assert len(set(line["negative_ids"])) == 3
        assert "d0" not in line["negative_ids"] or "bone" in line["query"]
    # the same hits, and yet not the same ranks, which one seed for all queries would draw
    assert lines[0]["negative_ids"] != lines[1]["negative_ids"]

    backwards = write(tmp_path / "backwards.jsonl", *reversed(rows))
    alone = mined(local, backwards, tmp_path / "b.jsonl", batch_queries=1, **settings)
    assert alone == lines[::-1]
    other = mined(local, pairs, tmp_path / "c.jsonl", seed=1, **settings)
    assert [line["negative_ids"] for line in other] != [line["negative_ids"] for line in lines]


def test_few_hits_give_few_negatives(local: Engine, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", {"query": "heart", "positive": "x"})
    line = mined(local, pairs, tmp_path / "a.jsonl", depth=5, skip_top=2, negatives=8)[0]
    assert sorted(line["negative_ids"]) == ["d2", "d3", "d4"]
    local.index("ranked").bulk([action("rare", {"splade": {}, "text": "zebra"})])
    local.index("ranked").refresh()
    pairs = write(tmp_path / "pairs.jsonl", {"query": "zebra", "positive": "x"})
    assert mined(local, pairs, tmp_path / "b.jsonl", depth=3, skip_top=2) == [
        {"query": "zebra", "positive": "x"}
    ]


def beir(folder: Path, qrels: str) -> str:
    write(
        folder / "corpus.jsonl",
        {"_id": "d0", "title": "Old", "text": "text"},
        *({"_id": id, "text": text} for id, text in RANKED.items()),
        {"_id": "d0", "title": "Pump", "text": "body"},
        {"_id": "blank", "text": " "},
        {"_id": "broken"},
    )
    write(
        folder / "queries.jsonl",
        *({"_id": f"q{n}", "text": text} for n, text in enumerate(["heart", "bone", "unjudged"])),
    )
    (folder / "qrels").mkdir(exist_ok=True)
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return str(folder)


def test_a_beir_folder(local: Engine, tmp_path: Path) -> None:
    data = beir(tmp_path, "q1\td9\t1\nq0\td2\t2\nq0\td0\t1\nq0\td1\t0\n")
    two, zero, bone = mined(local, data, tmp_path / "out.jsonl", skip_top=0, negatives=0)
    assert (two["positive"], two["positive_ids"]) == (RANKED["d2"], ["d2", "d0"])
    assert (zero["positive"], zero["positive_ids"]) == ("Pump body", ["d0", "d2"])
    # judged as not relevant, d1 is as good a negative as any
    assert two["negative_ids"] == zero["negative_ids"] == ["d1", *(f"d{n}" for n in range(3, 10))]
    assert (bone["query"], bone["positive_id"]) == ("bone", "d9")


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        ("q0\tnone\t1\n", 'document "none", a positive of query "q0", is not in corpus.jsonl. C'),
        ("q0\tblank\t1\n", 'document "blank", a positive of query "q0", has no text. Correct the'),
        ("q0\td0\t0\n", ": there are no positives. Give queries with a relevant document."),
    ],
)
def test_a_bad_beir_folder_is_named(local: Engine, tmp_path: Path, qrels: str, said: str) -> None:
    data = beir(tmp_path, qrels)
    with pytest.raises(SpladeEsError) as caught:
        mined(local, data, tmp_path / "out.jsonl")
    assert str(caught.value).startswith(f"{data}:") and said in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q"}, ':2: "positive" must be a text that is not empty. Correct or re'),
        ({"query": " ", "positive": "p"}, ':2: "query" must be a text that is not empty. Correct'),
        ({"query": "q", "positive": ["p"]}, ':2: "positive" must be a text that is not empty.'),
        ({"query": "q", "positive": "p", "positive_id": 1.5}, ':2: "positive_id" must be an id'),
        ({"query": "q", "positive": "p", "positive_id": ""}, ':2: "positive_id" must be an id, '),
        ({"query": "q", "positive": "p", "positive_ids": "d1"}, ':2: "positive_id" must be an'),
        ([1], ":2: an array, not an object; write one object on each line"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(
    local: Engine, tmp_path: Path, row: Any, said: str
) -> None:
    pairs = write(tmp_path / "pairs.jsonl", {"query": "q", "positive": "p"}, row)
    output = tmp_path / "out" / "mined.jsonl"
    output.parent.mkdir()
    output.write_text("of an earlier run")
    with pytest.raises(SpladeEsError) as caught:
        mined(local, pairs, output)
    assert str(caught.value).startswith(pairs + said)
    assert output.read_text() == "of an earlier run"
    assert list(output.parent.iterdir()) == [output]


def test_an_error_of_the_engine_leaves_what_was_there(local: Engine, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", {"query": "q", "positive": "p"})
    output = tmp_path / "out" / "mined.jsonl"
    output.parent.mkdir()
    with pytest.raises(IndexMissing):
        list(mine_steps(local.index("none"), pairs, str(output), {"mode": "bm25"}))
    assert list(output.parent.iterdir()) == []


def test_the_input_is_not_overwritten(local: Engine, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", {"query": "q", "positive": "p"})
    (tmp_path / "link").symlink_to(pairs)
    for output in (Path(pairs), tmp_path / "link"):
        with pytest.raises(
            SpladeEsError, match=r"`output` would overwrite the input .*\. Name another file"
        ):
            mined(local, pairs, output)
    assert read(Path(pairs)) == [{"query": "q", "positive": "p"}]
    data = beir(tmp_path, "q0\td0\t1\n")
    with pytest.raises(SettingsError, match=r"the input .*train\.tsv\. Name another file"):
        mined(local, data, tmp_path / "qrels" / "train.tsv")


def test_an_output_that_cannot_be_written(local: Engine, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", {"query": "q", "positive": "p"})
    with pytest.raises(SpladeEsError) as caught:
        mined(local, pairs, tmp_path / "none" / "out.jsonl")
    assert str(caught.value) == (
        f"{tmp_path}/none/out.jsonl: cannot be written (No such file or directory). "
        "Check the directory, its permissions and its free space."
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"depth": 0}, "`depth` is 0; it must be 1 to 10,000"),
        ({"negatives": -1}, "`negatives` is -1; it must be 0 or more"),
        ({"skip_top": -1}, "`skip_top` is -1; it must be 0 or more"),
        (
            {"skip_top": 5, "depth": 5},
            "`skip_top` 5 leaves nothing of `depth` 5. Set `skip_top` below `depth`.",
        ),
        ({"model": "m"}, "`mode` bm25 searches without a `model`. Leave out `model`."),
    ],
)
def test_settings_are_checked_at_the_call(
    local: Engine, tmp_path: Path, settings: Any, said: str
) -> None:
    pairs = write(tmp_path / "pairs.jsonl", {"query": "q", "positive": "p"})
    output = str(tmp_path / "out.jsonl")
    given: Any = {"mode": "bm25", **settings}
    with pytest.raises(SettingsError) as caught:
        mine_steps(local.index("ranked"), pairs, output, given)
    assert str(caught.value) == said
    with pytest.raises(CorpusError, match="no such file"):
        mine_steps(local.index("ranked"), "none.jsonl", output, {"mode": "bm25"})
