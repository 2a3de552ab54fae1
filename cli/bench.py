"""The command `splade-es bench`."""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from splade_es.cli.options import (
    doc_length_option,
    index_option,
    json_option,
    k_option,
    model_option,
    moved_model_option,
    open_engine,
    url_option,
)
from splade_es.cli.output import print_json, print_table

if TYPE_CHECKING:
    from splade_es.encoders.torch_encoder import Encoder
    from splade_es.records import Document, SparseRow


@click.group()
def bench() -> None:
    """Measure how fast this machine is, before a long job is started.

    \b
    Example:
      splade-es bench encode corpus.jsonl --model model
      splade-es bench train pairs.jsonl --model distilbert-base-uncased
      splade-es bench search queries.jsonl --index articles
    """


@bench.command()
@click.argument("corpus")
@model_option("It encodes the documents.", required=True)
@doc_length_option
@click.option(
    "--documents",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Documents to encode.",
)
@json_option
def encode(corpus: str, model: str, max_length: int | None, documents: int, as_json: bool) -> None:
    """Encode the first documents of CORPUS in each precision that this machine has.

    Beside the rate it shows what the CPU does for each document: tokenising it, and making the body
    of a bulk request of its vector. On a GPU it shows how far encoding is from the card's own
    limits: its rate of bf16 products, and its memory bandwidth.

    \b
    Example:
      splade-es bench encode corpus.jsonl --model model --doc-length 128
    """
    from splade_es.data.corpus import read_documents
    from splade_es.encoders.allocator import keep_freed_memory
    from splade_es.encoders.base import Precision
    from splade_es.encoders.devices import pick_device
    from splade_es.encoders.torch_encoder import Encoder
    from splade_es.encoders.work import count_work, device_limits, tokenizing_seconds
    from splade_es.models import int8
    from splade_es.records import Document

    keep_freed_memory()
    device = pick_device()
    precisions: list[Precision] = ["fp32"]
    if device.type == "cuda":
        precisions += ["bf16", "fp16"]
    elif device.type == "cpu" and int8.available():
        precisions += ["int8"]
    found = (item for item in read_documents(corpus) if isinstance(item, Document))
    chosen = list(itertools.islice(found, documents))
    if not chosen:
        raise click.ClickException(f"{corpus}: no documents in it. Check the file.")
    bodies = [document.body for document in chosen]
    limits = device_limits(device) if device.type == "cuda" else None
    rows = []
    for precision in precisions:
        encoder = Encoder.load(model, max_length, precision=precision)
        list(encoder.encode(bodies[:32]))  # the first batch of all is slow
        started = time.perf_counter()
        vectors = list(encoder.encode(bodies))
        seconds = time.perf_counter() - started
        row = {"precision": precision, "device": str(device),
               "documents_per_second": len(bodies) / seconds,
               "terms_per_document": statistics.mean(len(vector.ids) for vector in vectors),
               "hours_per_million": 1e6 * seconds / len(bodies) / 3600,
               "tokenizing_cpu_ms": 1000 * tokenizing_seconds(encoder, bodies) / len(bodies),
               "body_cpu_ms": 1000 * _body_seconds(encoder, chosen, vectors) / len(bodies),
        }  # fmt: skip
        if limits:
            work = count_work(encoder, bodies)
            row |= {"of_matrix_rate": work.flops / seconds / limits.flops,
                    "of_memory_bandwidth": work.bytes / seconds / limits.bytes}  # fmt: skip
        rows.append(row)
    _show(rows, as_json)


@bench.command()
@click.argument("data", metavar="PAIRS")
@model_option("Training starts from this masked language model.", required=True)
@click.option("--config", "config_file", help="YAML file of settings, or the name of a recipe.")
@click.option("--batch-size", type=int, help="Queries in a batch.  [default: 32]")
@click.option(
    "--mini-batch-tokens",
    type=int,
    help="Encode this many tokens at a time, with gradient caching.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Optimizer steps to measure, after a first one that is not measured.",
)
@json_option
def train(
    data: str,
    model: str,
    config_file: str | None,
    batch_size: int | None,
    mini_batch_tokens: int | None,
    steps: int,
    as_json: bool,
) -> None:
    """Train a few steps on PAIRS, and throw the model away.

    \b
    Example:
      splade-es bench train pairs.jsonl --model distilbert-base-uncased --batch-size 32
    """
    from splade_es import operations
    from splade_es.cli.train import df_engine, make_config
    from splade_es.encoders.allocator import keep_freed_memory

    keep_freed_memory()
    options = {"batch_size": batch_size, "mini_batch_tokens": mini_batch_tokens}
    given = {name: value for name, value in options.items() if value is not None}
    given |= {"steps": steps + 1, "log_every": 1, "save_every": steps + 1}
    with tempfile.TemporaryDirectory() as folder:
        config = make_config(
            config_file,
            given,
            left_out=("ramp", "ramp_delay", "dev", "patience", "tensorboard"),
            data=data,
            model=model,
            output=str(Path(folder, "model")),
        )
        with df_engine(config) as engine:
            logs = list(operations.train_steps(config, engine=engine))
    took = statistics.median(1 / log.steps_per_second for log in logs[1:])
    rows = [{"batch_size": config.batch_size, "seconds_per_step": took,
             "pairs_per_second": config.batch_size / took, "peak_mb": _peak()}]  # fmt: skip
    _show(rows, as_json)


@bench.command()
@click.argument("queries")
@index_option
@url_option
@moved_model_option
@k_option(10)
@click.option(
    "--count", type=click.IntRange(1), default=200, show_default=True, help="Queries to measure."
)
@json_option
def search(
    queries: str,
    index_name: str,
    url: str | None,
    model: str | None,
    k: int,
    count: int,
    as_json: bool,
) -> None:
    """Search for each of QUERIES, lines of JSON with "text" as in a BEIR folder, one by one.

    \b
    Example:
      splade-es bench search scifact/queries.jsonl --index articles
    """
    from splade_es.data.trec_beir import read_queries

    texts = [query.text for query in read_queries(queries)[:count]]
    if not texts:
        raise click.ClickException(f"{queries}: no queries in it. Check the file.")
    encoding, searching = [], []
    with open_engine(url) as engine:
        started = time.perf_counter()
        searcher = engine.index(index_name).searcher(model=model)
        loading = time.perf_counter() - started
        searcher.search(texts[0], k)  # caches
        for text in texts:
            started = time.perf_counter()
            (row,) = searcher.encoder.encode([text])
            encoded = time.perf_counter()
            searcher.index.search(searcher.clauses(row), k)
            searching.append(1000 * (time.perf_counter() - encoded))
            encoding.append(1000 * (encoded - started))
    rows = [{"queries": len(texts), "load_ms": 1000 * loading,
             "encode_ms": statistics.median(encoding),
             "search_ms": statistics.median(searching),
             "search_p95_ms": sorted(searching)[int(0.95 * len(searching))]}]  # fmt: skip
    _show(rows, as_json)


def _body_seconds(encoder: Encoder, documents: list[Document], vectors: list[SparseRow]) -> float:
    """CPU seconds for the bodies of bulk requests."""
    from splade_es.engines.transport import bulk_lines
    from splade_es.indexing.bulk_actions import ActionBuilder, LoadRequest
    from splade_es.quantize import Quantizer
    from splade_es.records import Encoded, Quantized

    quantizer = Quantizer()
    builder = ActionBuilder(encoder.vocabulary, quantizer.settings, encoder.name)
    started = time.process_time()
    stored = quantizer.quantize_all(vectors)
    items = [
        Encoded(document, vector)
        for document, vector in zip(documents, stored, strict=True)
        if isinstance(vector, Quantized)
    ]
    for action in LoadRequest(items, 0, builder).actions():
        bulk_lines(action)
    return time.process_time() - started


def _peak() -> float:
    """MB of the device's memory, or of this process where it has none of its own."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _show(rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row)
        return
    columns = [name.replace("_", " ") for name in rows[0]]
    cells = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    print_table("", columns, cells)
