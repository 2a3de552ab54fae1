"""What the fuzzer reads: each reader of the product, with valid files to begin from."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import Any, TypeAlias

import torch

from fuzz import Files
from models import TEXTS, tiny_masked_lm
from splade_es.data.corpus import open_corpus, read_documents
from splade_es.data.rejects import rejects_file
from splade_es.data.trec_beir import open_beir, read_qrels, read_queries, read_run
from splade_es.encoders.load import load_document_encoder, load_query_encoder
from splade_es.errors import Interrupted, SpladeEsError
from splade_es.indexing.journal import Journal
from splade_es.indexing.journal_entries import Done, digest
from splade_es.progress import follow
from splade_es.records import Document
from splade_es.training.checkpoint import CHECKPOINT, RunState, read_checkpoint, write_checkpoint
from splade_es.training.config import TrainConfig
from splade_es.training.config_file import read_config
from splade_es.training.data import read_examples
from splade_es.training.loop import train_steps
from splade_es.training.scoring import score_lines
from splade_es.vectors.folder import EncodeFolder
from splade_es.vectors.parquet import open_vectors, read_vectors

Target: TypeAlias = Callable[[Path], tuple[Callable[[Path], object], list[Files]]]

LINES = "".join(
    json.dumps({"_id": id, "title": "T", "text": text, "m": {"n": [1, None, 2.5, "x"]}}) + "\n"
    for id, text in TEXTS.items()
).encode()
ARRAY = b"[" + LINES.strip().replace(b"\n", b",\n") + b"]"
ROWS = [
    {"query": "q", "positive": "p", "negatives": ["n", "m"], "scores": [3.0, 2.0, 1.5]},
    {"query": "r", "positives": ["p", "o"], "positive_ids": ["7", "8"], "negative": "n"},
]


def json_lines(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def files_of(folder: Path) -> Files:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def corpus(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    rejects = folder / "rejects"
    with rejects_file(rejects) as file:
        for item in read_documents(str(write(folder / "c", b'{"_id": 7}\n{"_id": "a"\n' * 3))):
            file.add(item)  # type: ignore[arg-type]
    packed = [LINES, ARRAY, gzip.compress(LINES), bz2.compress(LINES), lzma.compress(LINES)]
    packed += [gzip.compress(ARRAY), rejects.read_bytes(), "é".encode("utf-16")]
    packed += [b'{"index": {"_id": "a"}}\n{"text": "x"}\n', b"id,text\n1,x\n"]

    def read(path: Path) -> None:
        items, _ = open_corpus(str(path / "corpus.jsonl"))
        for item in items:
            if isinstance(item, Document):
                item.content_hash(""), item.to_json()

    return read, [{"corpus.jsonl": content} for content in packed]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def vectors(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    model = tiny_masked_lm(folder / "model")
    path = write(folder / "c", LINES)
    settings: Any = {"rejects": str(folder / "rejects")}
    task = EncodeFolder(str(path), str(folder / "v"), model, settings, part_documents=3)
    follow(task.steps(), None)

    def read(path: Path) -> None:
        for item in read_vectors(open_vectors(path)):
            item.document.content_hash("")

    return read, [files_of(folder / "v")]


def journal(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    documents = [Document(f"d{n}", f"text {n}", place=f"c:{n}", number=n) for n in range(1, 10)]
    path = folder / "j"
    with closing(Journal.open(path)) as begun:
        begun.bind({"index": "x", "setting": "s", "scale": 100.0}, {"documents": 3, "new": True})
        for first, last in ((1, 3), (6, 7)):
            hashes = [(d.id, d.content_hash("s")) for d in documents[first - 1 : last]]
            begun.record(
                Done(
                    [[first, last]],
                    [],
                    digest(hashes),
                    digest([]),
                    last - first + 1,
                    0,
                    0,
                    0,
                    0,
                    {first: "no"},
                )
            )

    def read(path: Path) -> None:
        with (
            closing(Journal.open(path / "j", resume=True)) as opened,
            rejects_file(path / "rejects") as rejects,
        ):
            list(opened.remaining(documents, rejects))
            opened.bind({"index": "x"}, {"documents": 1})

    return read, [{"j": path.read_bytes()}]


def trec(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    topics = b"<top>\n<num> Number: 1\n<title> Topic: heart attack\n<desc> x\n</top>\n"
    beir = {
        "corpus.jsonl": LINES,
        "queries.jsonl": json_lines({"_id": "1", "text": "heart"}),
        "qrels/test.tsv": b"query-id\tcorpus-id\tscore\n1\theart\t1\n",
    }
    run = b"1 Q0 heart 1 2.5 tag\n1 Q0 bone 2 1.5 tag\n"

    def read(path: Path) -> None:
        for reader in (read_queries, read_qrels, read_run):
            with suppress(SpladeEsError):
                reader(str(path / "file"))
        open_beir(str(path), "test")

    return read, [
        {**beir, "file": content} for content in (topics, b"1\theart\n", run, *beir.values())
    ]


def examples(**named: bytes) -> Target:
    """Training data: all files of a folder, or one file named `data`."""

    def make(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
        files = {name.replace("__", "/").replace("_dot_", "."): c for name, c in named.items()}
        return lambda path: _read_examples(str(path / "data") if "data" in files else str(path)), [
            files
        ]

    return make


def _read_examples(path: str) -> None:
    with read_examples(path) as found:
        for number in range(len(found)):
            found[number]


NAVER = {
    "collection__raw_dot_tsv": b"11\theart\n12\tbone\n13\teye\n",
    "queries__raw_dot_tsv": b"3\tattack\n4\tmilk\n",
    "qrel__qrel_dot_json": b'{"3": {"11": 1}, "4": {"12": 1, "13": 0}}',
}
SCORES = {3: {11: 5.5, 12: 1.0, 13: -1}, 4: {12: 3.0, 11: 0.5}}


def pickles(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    files = {name.replace("__", "/").replace("_dot_", "."): c for name, c in NAVER.items()}
    seeds = []
    for protocol in range(6):
        for scores in (
            SCORES,
            {str(q): {str(d): s for d, s in r.items()} for q, r in SCORES.items()},
        ):
            dumped = pickle.dumps(scores, min(protocol, pickle.HIGHEST_PROTOCOL))
            seeds += [
                {**files, "scores.pkl.gz": content} for content in (dumped, gzip.compress(dumped))
            ]
    return lambda path: _read_examples(str(path)), seeds


def tables(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]

    table = pa.table(
        {"query": ["q", "r"], "pos": ["p", "o"], "neg": ["n", "m"], "label": [1.5, 2.0]}
    )
    pq.write_table(table, folder / "data.parquet")
    with pa.ipc.new_stream(folder / "data.arrow", table.schema) as stream:
        stream.write_table(table)
    saved = {
        "data.arrow": (folder / "data.arrow").read_bytes(),
        "state.json": b'{"_data_files": [{"filename": "data.arrow"}], "_format_kwargs": {}}',
    }
    parquet = {"part.parquet": (folder / "data.parquet").read_bytes()}
    return lambda path: _read_examples(str(path)), [saved, parquet]


def config(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    text = (
        b"# a recipe\nkind: separate\nmodel: x\nlr: 1e-4\nsteps: 100\nloss: kl=1,margin_mse=0.05\n"
        b"doc_lambda: 0.003\nfreeze_documents: false\ntemperature: 2\nquery_terms: ~\nseed: 0x10\n"
    )

    def read(path: Path) -> None:
        TrainConfig(
            **{"data": "d", "model": "m", "output": "o", **read_config(str(path / "c.yaml"))}
        )

    return read, [{"c.yaml": text}]


def score(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    def read(path: Path) -> None:
        list(score_lines(str(path / "data"), [str(path / "none")], str(path / "out")))

    return read, [{"data": json_lines(*ROWS)}]


def checkpoint(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    model = tiny_masked_lm(folder / "model")
    data = write(
        folder / "data",
        json_lines({"query": "heart", "positive": "bone"}, {"query": "a", "positive": "b"}),
    )
    made = TrainConfig(
        data=data, model=model, output=folder / "out", steps=2, batch_size=2, doc_length=32
    )
    stop = Event()
    stop.set()
    with suppress(Interrupted):
        list(train_steps(made, stop=stop))
    state = read_checkpoint(folder / "out", made)
    assert state.stepper is not None
    (folder / "small").mkdir()
    small: Any = {"model": {}, "optimizer": {}, "scaler": {}, "objective": {}}
    write_checkpoint(folder / "small", RunState(**{**vars(state), "stepper": None}), small)
    whole = {CHECKPOINT: (folder / "out" / CHECKPOINT).read_bytes()}

    def read(path: Path) -> None:
        (path / "data").write_bytes(data.read_bytes())
        read_checkpoint(path, made)

    return read, [whole, {CHECKPOINT: (folder / "small" / CHECKPOINT).read_bytes()}]


def models(folder: Path) -> tuple[Callable[[Path], object], list[Files]]:
    from splade_es.models.model import SpladeModel
    from splade_es.models.pair import EncoderPair, QueryTable

    plain = tiny_masked_lm(folder / "plain")
    documents = SpladeModel.load(plain)
    EncoderPair(documents, documents).save(folder / "one")
    table = QueryTable(torch.ones(len(documents.suppressed)), documents.suppressed)
    EncoderPair(documents, table).save(folder / "table")
    EncoderPair(documents, SpladeModel.load(plain)).save(folder / "two")

    def read(path: Path) -> None:
        for load in (load_query_encoder, load_document_encoder):
            encoder = load(str(path), 32, interactive=True)
            list(encoder.encode(["the heart attack", ""]))

    return read, [files_of(folder / name) for name in ("plain", "one", "table", "two")]


TARGETS: dict[str, Target] = {
    "corpus": corpus,
    "vectors": vectors,
    "journal": journal,
    "checkpoint": checkpoint,
    "own": examples(data=json_lines(*ROWS)),
    "beir": examples(
        corpus_dot_jsonl=LINES,
        queries_dot_jsonl=json_lines({"_id": "1", "text": "heart"}),
        qrels__train_dot_tsv=b"query-id\tcorpus-id\tscore\n1\theart\t1\n",
    ),
    "yast": examples(
        data=json_lines(
            {"query": "q", "positives": ["p"], "negatives": ["n"], "positives_score": [0.9],
             "negatives_score": [0.2]},
            {"query": "q", "pos": "p", "neg": ["n", "m"]},
            {"query": "q", "docs": ["n", "m"], "scores": [1.0, 5.0]},
        )
    ),
    "opensearch": examples(
        data=json_lines({"query": "q", "docs": ["n", "m"], "scores": [1.0, 5.0]})
    ),
    "sentence-transformers": examples(
        data=json_lines(
            {"anchor": "q", "positive": "p", "n1": "n", "n2": "m", "label": [3, 2.5, 1]},
            {"anchor": "q", "positive": "p", "n1": "n", "label": 1.5},
        )
    ),
    "ranking": examples(data=json_lines({"a": "q", "documents": ["p", "n"], "labels": [1, 0]})),
    "light-splade": examples(
        query_master_dot_ndjson=json_lines({"qid": 3, "text": "a"}, {"qid": 4, "text": "b"}),
        doc_master_dot_ndjson=json_lines(*({"doc_id": n, "text": f"t{n}"} for n in (11, 12, 13))),
        positive_lists_dot_ndjson=json_lines({"qid": 3, "positive_doc_ids": [11, 12]}),
        hard_negative_scores_dot_ndjson=json_lines({"qid": 3, "scores": {"11": 0.9, "13": 0.2}}),
    ),
    "light-splade-triplets": examples(
        query_master_dot_ndjson=json_lines({"qid": 3, "text": "a"}),
        doc_master_dot_ndjson=json_lines(*({"doc_id": n, "text": f"t{n}"} for n in (11, 12, 13))),
        positive_lists_dot_ndjson=json_lines({"qid": 3, "positive_doc_ids": [11, 12]}),
        triplets_dot_ndjson=json_lines({"qid": 3, "pos_doc_id": 11, "neg_doc_id": 13}),
    ),
    "naver-triplets": examples(data=b"q\tp\tn\t3.5\t1\nq\tp\tm\t2\t1\n"),
    "pickles": pickles,
    "tables": tables,
    "config": config,
    "score": score,
    "trec": trec,
    "models": models,
}  # fmt: skip
