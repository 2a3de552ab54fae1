"""Training data of other code bases, written here by hand as their documentation has it."""

import gzip
import json
import pickle
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splade_es.errors import SpladeEsError
from splade_es.training.data import Example, read_examples
from splade_es.training.formats import FORMATS


def write(path: Path, *rows: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def read(path: str | Path, **options: Any) -> tuple[str, list[Example]]:
    with read_examples(str(path), **options) as examples:
        return examples.format, [examples[i] for i in range(len(examples))]


def error(path: str | Path, **options: Any) -> str:
    with pytest.raises(SpladeEsError) as caught:
        read_examples(str(path), **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


# light-splade


def light_splade(folder: Path) -> Path:
    write(
        folder / "query_master.ndjson", {"qid": 3, "text": "取り消す"}, {"qid": 4, "text": "睡眠"}
    )
    documents = {11: "eleven", 12: "twelve", 13: "thirteen", 16: "sixteen", 100: "hundred"}
    write(folder / "doc_master.ndjson", *({"doc_id": i, "text": t} for i, t in documents.items()))
    write(
        folder / "positive_lists.ndjson",
        {"qid": 3, "positive_doc_ids": [11, 100]},
        {"qid": 4, "positive_doc_ids": [16]},
    )
    return folder


def test_light_splade_triplets(tmp_path: Path) -> None:
    train = light_splade(tmp_path / "data" / "train")
    path = write(
        train / "triplets.ndjson",
        {"qid": 3, "pos_doc_id": 100, "neg_doc_id": 12},
        {"qid": 4, "pos_doc_id": 16, "neg_doc_id": 13},
    )
    format, examples = read(train)
    assert format == "light-splade"
    assert examples[0] == Example(
        query="取り消す",
        positives=("hundred",),
        negatives=("twelve",),
        positive_scores=None,
        negative_scores=None,
        positive_keys=("100", "11"),
        negative_keys=("12",),
        place=f"{path}:1",
    )
    assert examples[1].positive_keys == ("16",)
    assert read(tmp_path / "data") == (format, examples)  # the folder above is found, too


@pytest.mark.parametrize("above", [False, True])
def test_light_splade_scores(tmp_path: Path, above: bool) -> None:
    train = light_splade(tmp_path / "train")
    write(train / "triplets.ndjson", {"qid": 4, "pos_doc_id": 16, "neg_doc_id": 13})
    name = "hard-negatives-cross-encoder-scores.ndjson.gz"
    path = (tmp_path if above else train) / name
    rows = (
        {"qid": 3, "scores": {"11": 0.95, "12": 0.23, "13": 0.15, "100": 0.26}},
        {"qid": 99, "scores": {"7": 0.5}},  # a validation query
        {"qid": 4, "scores": {"16": 0.92, "13": 1}},
    )
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    _, examples = read(tmp_path, needs_scores=True)
    assert examples == [
        Example(
            query="取り消す",
            positives=("eleven", "hundred"),
            negatives=("twelve", "thirteen"),
            positive_scores=(0.95, 0.26),
            negative_scores=(0.23, 0.15),
            positive_keys=("11", "100"),
            negative_keys=("12", "13"),
            place=f"{path}:1",
        ),
        Example(
            "睡眠", ("sixteen",), ("thirteen",), (0.92,), (1.0,), ("16",), ("13",), f"{path}:3"
        ),
    ]


def test_light_splade_lists_alone_are_pairs(tmp_path: Path) -> None:
    _, examples = read(light_splade(tmp_path))
    assert [(e.positives, e.negatives) for e in examples] == [
        (("eleven", "hundred"), ()),
        (("sixteen",), ()),
    ]


def test_a_positive_without_a_score_stays_known(tmp_path: Path) -> None:
    write(
        light_splade(tmp_path) / "hard_negative_scores.ndjson",
        {"qid": 3, "scores": {"100": 0.9, "12": 0.2}},
        {"qid": 4, "scores": {"12": 0.2}},
    )
    _, [some, none] = read(tmp_path)
    assert (some.positives, some.positive_keys) == (("hundred",), ("100", "11"))
    assert (none.positives, none.negatives) == (("sixteen",), ("twelve",))
    assert none.positive_scores is none.negative_scores is None
    assert "hard_negative_scores.ndjson:2: there are no negatives with" in error(
        tmp_path, needs_scores=True
    )


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        (
            "triplets",
            {"qid": 3, "pos_doc_id": 17, "neg_doc_id": 12},
            "the text of document 17 is not in the data",
        ),
        (
            "triplets",
            {"qid": 5, "pos_doc_id": 11, "neg_doc_id": 12},
            "the text of query 5 is not in the data",
        ),
        ("triplets", {"qid": 3, "pos_doc_id": 11}, '0 ids in "neg_doc_id". Give one id'),
        (  # a positive by the list
            "triplets",
            {"qid": 3, "pos_doc_id": 11, "neg_doc_id": 100},
            "document 100 is also a positive of the same query",
        ),
        ("hard_negative_scores", {"qid": 3, "scores": [1]}, '"scores" is an array. Make it an'),
        (
            "hard_negative_scores",
            {"qid": 3, "scores": {"11": 1, "17": 0}},
            "the text of document 17 is not in the data",
        ),
        ("hard_negative_scores", {"qid": 3, "scores": {"11": None, "12": 0}}, "the score null is"),
        ("positive_lists", {"qid": 3, "positive_doc_ids": []}, "there is no positive."),
        ("doc_master", {"doc_id": 1, "text": 5}, '"text" is a number. Make it a string'),
    ],
)
def test_a_bad_row_of_light_splade_is_named(tmp_path: Path, name: str, row: Any, said: str) -> None:
    path = write(light_splade(tmp_path) / f"{name}.ndjson", row)
    assert error(tmp_path).startswith(f"{path}:1: {said}")


def test_light_splade_misses_a_file_or_a_query(tmp_path: Path) -> None:
    folder = light_splade(tmp_path)
    path = write(folder / "hard_negative_scores.ndjson", {"qid": 3, "scores": {"11": 1, "12": 0}})
    assert error(tmp_path) == (
        f"{path}: there are no scores of query 4, which {folder}/positive_lists.ndjson has. "
        "Score its candidates too, or remove the query."
    )
    (folder / "doc_master.ndjson").unlink()
    assert error(tmp_path).startswith(
        f"{folder}: there is no doc_master.ndjson. A light-splade folder has"
    )


# naver


def naver(folder: Path) -> Path:
    for name, lines in {
        "full_collection/raw.tsv": "11\televen\n12\t twelve\n13\tthirteen\tand more\n14\televen\n",
        "train_queries/queries/raw.tsv": "3\tthree\n4\tfour\n",
        "train_queries/qrels.json": '{"3": {"11": 1, "13": 0}, "4": {"12": 1}}',
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(lines)
    return folder


def write_pickle(folder: Path, value: Any, protocol: int = 4) -> str:
    path = folder / "hard_negatives_scores" / "cross-encoder-scores.pkl.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(pickle.dumps(value, protocol)))
    return str(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [int, str])
def test_naver_scores(tmp_path: Path, protocol: int, kind: Any) -> None:
    # 14 has the text of the positive, and query 9 no judgements
    scores = {
        kind(3): {kind(12): 0.5, kind(11): 9.25, kind(13): -1, kind(14): 9.0},
        kind(9): {kind(12): 1.0},
        kind(4): {kind(12): 1.0, kind(13): 2.0},
    }
    path = write_pickle(naver(tmp_path), scores, protocol)
    format, examples = read(tmp_path, needs_scores=True)
    assert format == "naver"
    assert examples[0] == Example(
        query="three",
        positives=("eleven",),
        negatives=("twelve", "thirteen and more"),
        positive_scores=(9.25,),
        negative_scores=(0.5, -1.0),
        positive_keys=("11",),
        negative_keys=("12", "13"),
        place=f"{path}, query 3",
    )
    assert [e.query for e in examples] == ["three", "four"]


def test_a_large_pickle_is_read_in_several_batches(tmp_path: Path) -> None:
    folder = naver(tmp_path)
    qids = range(2500)  # pickle writes a dict by the thousand
    qrels = {q: {"11": 1} for q in qids}
    (folder / "train_queries/qrels.json").write_text(json.dumps(qrels))
    (folder / "train_queries/queries/raw.tsv").write_text("".join(f"{q}\tq{q}\n" for q in qids))
    write_pickle(folder, {q: {11: 1.0, 12: float(q)} for q in qids})
    _, examples = read(folder)
    assert [e.negative_scores for e in examples] == [(float(q),) for q in qids]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (Bomb.path, "w"))

    path = ""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({3: {12: np.float32(1)}}, "has the instruction "),
        (defaultdict(dict, {3: {12: 1.0}}), "has the instruction "),
        ({3: Bomb()}, "has the instruction "),
        ({3: {12: float("nan")}}, "holds something else"),
        ({3: {12: True}}, "has the instruction NEWTRUE"),
        ({3: [12, 1.0]}, "has the instruction "),
        ({3: 1.0}, "holds something else"),
        ({3: {12: {11: 1.0}}}, "holds something else"),
        ("text", "holds something else"),
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_not_executed(
    tmp_path: Path, value: Any, said: str
) -> None:
    Bomb.path = str(tmp_path / "executed")
    path = write_pickle(naver(tmp_path), value)
    text = error(tmp_path)
    assert text.startswith(f"{path}: the pickle {said}")
    assert text.endswith(
        "only dicts of strings and finite numbers are read. Write it as "
        "{query: {document: float(score)}}, with numbers of numpy turned into float."
    )
    assert not (tmp_path / "executed").exists()


def test_a_dict_that_comes_twice_is_refused(tmp_path: Path) -> None:
    shared = {11: 1.0, 12: 0.5}
    write_pickle(naver(tmp_path), {3: shared, 4: shared})
    assert "the pickle holds the same dict twice" in error(tmp_path)


def test_a_damaged_pickle(tmp_path: Path) -> None:
    path = Path(write_pickle(naver(tmp_path), {3: {11: 1.0}}))
    whole = path.read_bytes()
    path.write_bytes(whole[:-12])
    assert error(tmp_path).startswith(f"{path}: the pickle is damaged or cut short (")
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-5]))
    assert error(tmp_path).startswith(f"{path}: the pickle is damaged or cut short (")
    for code, said in (
        (b"\x80\x04}", "it is incomplete"),
        (b"\x80\x04}s.", "pop from empty list"),
        (b"\x80\x04}(K\x03u.", "a key without a value"),
        (b"\x80\x04}\xff", "there is no instruction b'\\xff'"),
        (b"\x80\x04}J\x01", "unpack requires a buffer of 4 bytes"),
    ):
        path.write_bytes(code)  # plain, not gzip
        assert f"{path}: the pickle is damaged or cut short ({said})" in error(tmp_path)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (b"}I" + b"9" * 4000 + b"\n", "a number of 13,"),
        (b"}I" + b"9" * 2_000_000 + b"\n", "a value of more than 1,048,576 bytes"),
        (b"}\x8b\x00\x00\x10\x00" + b"\x7f" * 2**20, "a number of 8,388,607 bits"),
        (b"}\x8b\xff\xff\xff\x7f", "a value of 2,147,483,647 bytes"),
        (b"}\x8d" + b"\xff" * 7 + b"\x0f", "a value of 1,152,921,504,606,846,975 bytes"),
        (b"}" + b"K\x01" * 3_000_000, "it stores nothing"),
        (b"}" + b"(" * 3_000_000, "it stores nothing"),
        (b"}\x8c\x01a" + b"\x94" * 3_000_000, "it keeps a value twice"),
        (b"}\x8c\x03\xed\xa0\x80", "'utf-8' codec can't encode character"),
    ],
)
def test_a_pickle_that_stands_for_more_than_scores_is_refused_at_once(
    tmp_path: Path, code: bytes, said: str
) -> None:
    path = Path(write_pickle(naver(tmp_path), {}))
    path.write_bytes(gzip.compress(b"\x80\x04" + code))
    started = time.monotonic()
    assert f"{path}: the pickle is damaged or cut short ({said}" in error(tmp_path)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["triplets/raw.tsv", "raw.tsv", "distil_mse/raw.tsv"])
def test_naver_triplets(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("q one\tp\tn\nq two\tp\tn\t9.5\t-3e-1\n")
    format, examples = read(tmp_path)
    assert format == "naver"
    assert examples == [
        Example("q one", ("p",), ("n",), None, None, ("p",), ("n",), f"{path}:1"),
        Example("q two", ("p",), ("n",), (9.5,), (-0.3,), ("p",), ("n",), f"{path}:2"),
    ]
    assert read(path) == (format, examples)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q\tp", "2 columns. Triplets have three"),
        ("q\tp\tn\t1", "4 columns. Triplets have three"),
        ("q\tp\tn\tone\t2", "could not convert string to float: 'one'. Columns four and five are"),
        ("q\tp\tn\tnan\t2", "the score NaN is not a finite number"),
        ("q\t\tn", "positive 1 is empty"),
        ("q\tp\tp", "negative 1 is also a positive of the same query"),
    ],
)
def test_a_bad_triplet_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "triplets.tsv"
    path.write_text(f"q\tp\tn\n{line}\n")
    assert error(path).startswith(f"{path}:2: {said}")


def test_naver_misses_a_file(tmp_path: Path) -> None:
    folder = naver(tmp_path)
    assert error(folder, format="naver") == (
        f"{folder}: there are no scores or triplets. Looked for hard_negatives_scores/*.pkl.gz, "
        "scores/*.pkl.gz, *.pkl.gz, triplets/raw.tsv, splade_triplets/raw.tsv, "
        "distil_mse/raw.tsv, raw.tsv; put them in one of these places."
    )
    path = write_pickle(folder, {3: {11: 1.0, 12: 0.5}})
    for content in ("[]", '{"3": {"11": Infinity}}', '{"3": {"11": NaN}}', "[" * 100_000):
        (folder / "train_queries" / "qrels.json").write_text(content)
        assert error(folder).startswith(
            f"{folder}/train_queries/qrels.json: there are no judgements in it ("
        )
    (folder / "train_queries" / "qrels.json").unlink()
    assert error(folder).startswith(
        f"{folder}: there are no judgements. Looked for train_queries/qrels.json"
    )
    Path(path).with_name("other.pkl.gz").write_bytes(b"")
    (folder / "qrels.json").write_text('{"3": {"11": 1}}')
    assert "2 files of scores (cross-encoder-scores.pkl.gz, other.pkl.gz). Leave only" in error(
        folder
    )


# yast, and the OpenSearch sample


@pytest.mark.parametrize(
    "row",
    [
        {
            "query": "質問",
            "positives": ["良い"],
            "negatives": ["悪い", "別の"],
            "positives_score": [1.0],
            "negatives_score": [0.25, 0.0],
        },
        {
            "q": "質問",
            "pos": "良い",
            "neg": ["悪い", "別の"],
            "pos_score": 1,
            "neg_score": [0.25, 0],
        },
        {
            "question": "質問",
            "positive": ["良い"],
            "negative": ["悪い", "別の"],
            "positive_scores": [1],
            "negative_scores": [0.25, 0.0],
        },
    ],
)
def test_yast(tmp_path: Path, row: Any) -> None:
    path = write(tmp_path / "toy.jsonl", row)
    assert read(path, needs_scores=True) == (
        "yast",
        [
            Example(
                query="質問",
                positives=("良い",),
                negatives=("悪い", "別の"),
                positive_scores=(1.0,),
                negative_scores=(0.25, 0.0),
                positive_keys=("良い",),
                negative_keys=("悪い", "別の"),
                place=f"{path}:1",
            )
        ],
    )


def test_yast_without_scores_and_with_too_few(tmp_path: Path) -> None:
    row = {"qry": "q", "pos": ["p"], "neg": ["n", "m"]}
    format, [example] = read(write(tmp_path / "t.jsonl", {**row, "pos_score": []}))
    assert (format, example.positive_scores, example.negative_scores) == ("yast", None, None)
    path = write(tmp_path / "t.jsonl", {**row, "pos_score": [1, 2], "neg_score": [1]})
    assert error(path).startswith(f"{path}:1: 3 scores for 1 positive and 2 negatives")
    path = write(tmp_path / "t.jsonl", {**row, "neg_score": [1, 2]})
    assert error(path).startswith(f"{path}:1: 2 scores for 1 positive and 2 negatives")


def test_opensearch_sample(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.jsonl",
        {"query": "q", "pos": "p", "negs": ["n", "m"]},
        {"query": "q", "docs": ["a", "b", "c"], "scores": [1.0, 9.0, 4.5]},
    )
    format, [named, ranked] = read(path)
    assert format == "opensearch"
    assert (named.positives, named.negatives, named.negative_scores) == (("p",), ("n", "m"), None)
    assert (ranked.positives, ranked.negatives) == (("b",), ("a", "c"))
    assert (ranked.positive_scores, ranked.negative_scores) == ((9.0,), (1.0, 4.5))
    path = write(tmp_path / "t.jsonl", {"query": "q", "docs": ["a", "b"]})
    assert error(path).startswith(
        f'{path}:1: there are "docs" without "scores", which show the positive among them'
    )
    path = write(tmp_path / "t.jsonl", {"query": "q", "docs": ["a", "b"], "scores": [2]})
    assert error(path).startswith(f"{path}:1: 1 scores for 2 documents. Give a score for each")
    path = write(tmp_path / "t.jsonl", {"query": "q", "docs": ["a", "b"], "scores": [2, None]})
    assert error(path).startswith(f"{path}:1: the score null is not a finite number")


# sentence-transformers

ROWS: list[tuple[Any, tuple[Any, ...]]] = [
    ({"anchor": "q", "positive": "p"}, (("p",), (), None, None)),
    ({"question": "q", "answer": "p", "label": 1}, (("p",), (), None, None)),
    ({"a": "q", "b": "p", "c": "n"}, (("p",), ("n",), None, None)),
    ({"label": 2.5, "text1": "q", "text2": "p", "text3": "n"}, (("p",), ("n",), (2.5,), (0.0,))),
    (  # the second column is the positive, whatever it is called
        {"query": "q", "passage1": "p", "passage2": "n", "scores": [3, 1]},
        (("p",), ("n",), (3.0,), (1.0,)),
    ),
    (
        {"query": "q", "positive": "p", "negative_1": "n", "negative_2": "m", "label": [2, 3.5]},
        (("p",), ("n", "m"), (0.0,), (-2.0, -3.5)),
    ),
    (
        {"query": "q", "positive": "p", "negative_1": "n", "negative_2": "m", "score": [9, 2, 1]},
        (("p",), ("n", "m"), (9.0,), (2.0, 1.0)),
    ),
    (
        {"query": "q", "documents": ["n", "p", "m"], "labels": [0, 1, 0]},
        (("p",), ("n", "m"), None, None),
    ),
    (
        {"query": "q", "responses": ["n", "p", "m"], "scores": [0.5, 7.0, -1.0]},
        (("p",), ("n", "m"), (7.0,), (0.5, -1.0)),
    ),
]


@pytest.mark.parametrize(("row", "expected"), ROWS)
def test_sentence_transformers_json_lines(
    tmp_path: Path, row: Any, expected: tuple[Any, ...]
) -> None:
    path = write(tmp_path / "t.jsonl", row)
    for format in (None, "sentence-transformers"):
        name, [example] = read(path, format=format)
        assert example.query == "q"
        assert example[1:5] == expected
        assert example.place == f"{path}:1"
        # this pair of columns is the toolkit's own row, too
        assert name == "sentence-transformers" or row.keys() <= {"query", "positive"}


@pytest.mark.parametrize(("row", "expected"), ROWS)
def test_sentence_transformers_parquet(tmp_path: Path, row: Any, expected: tuple[Any, ...]) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]

    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([row] * 600), path, row_group_size=500)
    format, examples = read(path)
    assert format == "sentence-transformers"
    assert [e[1:5] for e in examples] == [expected] * 600
    assert examples[599].place == f"{path}:600"
    assert read(tmp_path) == (format, examples)  # a folder of them


def test_parquet_goes_by_order_and_json_lines_by_name(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]

    row = {"positive": "first", "query": "second"}
    assert read(write(tmp_path / "t.jsonl", row))[1][0].query == "second"
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet")[1][0].query == "first"


@pytest.mark.parametrize("split", [False, True])
def test_a_saved_dataset(tmp_path: Path, split: bool) -> None:
    pa = pytest.importorskip("pyarrow")
    folder = tmp_path / "train" if split else tmp_path
    folder.mkdir(exist_ok=True)
    if split:
        (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    state = {"_data_files": [{"filename": n} for n in names], "_format_type": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    for part, name in enumerate(names):
        rows = [
            {"query": f"q{part}{i}", "pos": "p", "negs": ["n", "m"][: i % 3]} for i in range(300)
        ]
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    format, examples = read(tmp_path)
    assert (format, len(examples)) == ("opensearch", 600)
    assert examples[302].place == f"{folder}/{names[1]}:3"
    assert (examples[302].query, examples[302].negatives) == ("q12", ("n", "m"))
    (folder / names[1]).write_bytes(b"")
    assert error(tmp_path).startswith(f"{folder}/{names[1]}: cannot be read after row 0 (")
    for content in ("{}", "[" * 100_000):
        (folder / "state.json").write_text(content)
        assert error(tmp_path).startswith(f"{folder}/state.json: does not list the dataset's file")


def test_a_damaged_dataset_does_not_end_the_process(tmp_path: Path) -> None:
    """Ends of strings far outside of their bytes, which pyarrow reads all the same."""
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "data.arrow"
    batch = pa.record_batch({"query": ["a", "bcd"], "positive": ["e", "fgh"]})
    with pa.ipc.new_stream(path, batch.schema) as writer:
        writer.write_batch(batch)
    ends, beyond = (np.array([0, 1, end], np.int32).tobytes() for end in (4, 2**31 - 1))
    assert path.read_bytes().count(ends) == 2
    path.write_bytes(path.read_bytes().replace(ends, beyond))
    state = {"_data_files": [{"filename": "data.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    script = "import sys, splade_es.training.data as data; data.read_examples(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1].startswith(
        f"splade_es.errors.CorpusError: {tmp_path}/data.arrow: cannot be read after row 0 ("
    )


def test_yast_rows_in_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]

    row = {"query": "q", "positives": ["p"], "negatives": ["n"], "positives_score": [1.0]}
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "negatives_score": [0.5]}]), path)
    format, [example] = read(path)
    assert (format, example.positive_scores, example.negative_scores) == ("yast", (1.0,), (0.5,))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1")
    assert error(path) == (
        f"{path}: Parquet files and saved datasets need pyarrow. pip install 'splade-es[parquet]'"
    )


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    assert error(path).startswith(f"{path}: cannot be read after row 0 (")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q", "answer": "p", "label": 0}, "a pair has the label 0, but only 1 makes"),
        ({"a": "q", "b": "p", "c": "n", "label": [1, 2, 3]}, "3 numbers in the label, and 1 neg"),
        ({"a": "q", "b": "p", "c": "n", "d": "m", "label": 1}, "1 numbers in the label, and 2 neg"),
        ({"a": "q", "b": "p", "c": "n", "label": "x"}, 'the score "x" is not a finite number'),
        (
            {"a": "q", "b": "p", "c": "n", "d": "m", "label": ["x", 1]},
            'the score "x" is not a',
        ),
        ({"query_id": 3, "a": "q", "b": "p"}, 'column "query_id" holds ids, and columns are read'),
        ({"a": "q", "b": "p", "c": None}, "negative 1 is null, not a text"),
        ({"a": "q", "b": ["n", "m"], "labels": [0, 0]}, "there is no positive."),
        ({"label": 1}, "the query is null, not a text"),
    ],
)
def test_a_bad_row_of_columns_is_named(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path / "t.jsonl", {"a": "q", "b": "p"}, row)
    assert error(path, format="sentence-transformers").startswith(f"{path}:2: {said}")


# which reader


def test_the_names_of_the_formats() -> None:
    assert FORMATS == (
        "splade-es",
        "yast",
        "opensearch",
        "sentence-transformers",
        "beir",
        "light-splade",
        "naver",
    )


def test_own_rows_are_known_with_all_their_keys(tmp_path: Path) -> None:
    for row in (
        {"query": "q", "positive": "p"},
        {"query": "q", "positive": "p", "negatives": ["n"], "scores": [2, 1]},
        {"query": "q", "positive": "p", "negative": "n", "positive_id": 7, "source": "web"},
    ):
        assert read(write(tmp_path / "t.jsonl", row))[0] == "splade-es"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '{"_id": "7", "text": "a document"}',
            'the format of a row with "_id", "text" is unknown',
        ),
        ("{}", "the format of a row with nothing is unknown"),
        ("query,positive", "neither JSON, nor columns with tabs, nor Parquet. Check the path, or"),
        ('{"query": "q"', "broken JSON at column"),
    ],
)
def test_a_file_that_no_reader_knows(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "t"
    path.write_text(content)
    assert error(path).startswith(f"{path}:1: {said}")


def test_an_array_of_rows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('[{"query": "q", "positive": "p"},\n {"query": "q", "positive": 7}]')
    assert error(path).startswith(f"{path}, element 2: positive 1 is a number, not a text")


def test_a_folder_that_no_reader_knows(tmp_path: Path) -> None:
    assert error(tmp_path) == (
        f"{tmp_path}: the format of this folder is unknown: it has no state.json or *.parquet, "
        "query_master.ndjson (light-splade), corpus.jsonl (beir), *.pkl.gz or raw.tsv (naver). "
        "Check the path, or set `format` to one of splade-es, yast, opensearch, "
        "sentence-transformers, beir, light-splade, naver."
    )
    missing = tmp_path / "missing"
    assert error(missing) == f"{missing}: no such file or folder. Check the path."


def test_a_format_that_does_not_fit_the_path(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", {"query": "q", "positive": "p"})
    assert error(path, format="beir") == f"{path}: beir data is a folder. Give the folder."
    assert error(path, format="naver").startswith(f"{path}:1: 1 columns.")
    assert error(tmp_path, format="yast").startswith(
        f"{tmp_path}: there is no state.json and no *.parquet."
    )
    assert error(tmp_path, format="beir") == (
        f"{tmp_path}: there is no corpus.jsonl and no queries.jsonl and no qrels/train.tsv. "
        "A BEIR folder to train on has corpus.jsonl, queries.jsonl, qrels/train.tsv, plain or "
        "compressed."
    )
    assert error(tmp_path, format="light-splade").startswith(
        f"{tmp_path}: there is no query_master.ndjson and no doc_master.ndjson and no "
        "positive_lists.ndjson."
    )
    assert error(path, format="yast", corpus=str(tmp_path)) == (
        f"{path}: yast data has all texts itself, and takes none from {tmp_path}. "
        "Leave out `corpus`."
    )
