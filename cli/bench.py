"""splade-es bench"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from splade_es.cli.options import index_option, json_option, open_engine, url_option
from splade_es.cli.output import print_json, print_table


@click.group()
def bench() -> None:
    """Measure what this machine gives, before a long job is started.

    \b
    Example:
      splade-es bench encode corpus.jsonl --model model
      splade-es bench train pairs.jsonl --model distilbert-base-uncased
      splade-es bench search queries.jsonl --index articles
    """


@bench.command()
@click.argument("corpus")
@click.option("--model", required=True, help="SPLADE model: a directory or a hub name.")
@click.option("--max-length", type=int, help="Tokens of a document.  [default: the model's]")
@click.option(
    "--documents",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Documents to encode.",
)
@json_option
def encode(corpus: str, model: str, max_length: int | None, documents: int, as_json: bool) -> None:
    """Encode the first documents of CORPUS in each precision there is for this machine.

    \b
    Example:
      splade-es bench encode corpus.jsonl --model model --max-length 128
    """
    from splade_es.data.corpus import read_documents
    from splade_es.encoders.base import Precision
    from splade_es.encoders.torch_encoder import Encoder, pick_device
    from splade_es.models import int8
    from splade_es.records import Document

    device = pick_device()
    precisions: list[Precision] = ["fp32"]
    if device.type == "cuda":
        precisions += ["bf16", "fp16"]
    elif device.type == "cpu" and int8.available():
        precisions += ["int8"]
    found = (item.body for item in read_documents(corpus) if isinstance(item, Document))
    bodies = list(itertools.islice(found, documents))
    if not bodies:
        raise click.ClickException(f"{corpus}: no documents in it. Check the file.")
    rows = []
    for precision in precisions:
        encoder = Encoder.load(model, max_length, precision=precision)
        list(encoder.encode(bodies[:32]))  # the first batch of all is slow
        started = time.perf_counter()
        terms = [len(row.ids) for row in encoder.encode(bodies)]
        rate = len(bodies) / (time.perf_counter() - started)
        rows.append({"precision": precision, "device": str(device), "documents_per_second": rate,
                     "terms_per_document": statistics.mean(terms),
                     "hours_per_million": 1e6 / rate / 3600})  # fmt: skip
    _show(rows, as_json)


@bench.command()
@click.argument("pairs")
@click.option("--model", required=True, help="Masked language model to start from: DIR or name.")
@click.option("--config", "config_file", help="YAML file of settings, or a recipe's name.")
@click.option("--batch-size", type=int, help="Queries of a step.")
@click.option("--mini-batch-tokens", type=int, help="Gradient caching, so many tokens at a time.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Steps to measure, after a first one that is not.",
)
@json_option
def train(
    pairs: str,
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
    from splade_es.training.config import TrainConfig, read_config
    from splade_es.training.loop import train as run

    settings = read_config(config_file) if config_file else {}
    for name in ("steps", "epochs", "ramp", "ramp_delay", "dev", "patience", "tensorboard"):
        settings.pop(name, None)
    given = {"batch_size": batch_size, "mini_batch_tokens": mini_batch_tokens}
    settings |= {name: value for name, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            **{**settings, "data": pairs, "model": model, "output": str(Path(folder, "model")),
               "steps": steps + 1, "log_every": 1, "save_every": steps + 1}
        )  # fmt: skip
        times = [1 / log.steps_per_second for log in run(config)][1:]
    took = statistics.median(times)
    rows = [{"batch_size": config.batch_size, "seconds_per_step": took,
             "pairs_per_second": config.batch_size / took, "peak_mb": _peak()}]  # fmt: skip
    _show(rows, as_json)


@bench.command()
@click.argument("queries")
@index_option
@url_option
@click.option("--model", help="Where the model is now, if it has moved.")
@click.option("-k", default=10, show_default=True, help="Results of a query.")
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
    from splade_es.search.searcher import Searcher

    texts = [query.text for query in read_queries(queries)[:count]]
    if not texts:
        raise click.ClickException(f"{queries}: no queries in it. Check the file.")
    encoding, searching = [], []
    with open_engine(url) as engine:
        started = time.perf_counter()
        searcher = Searcher(engine, index_name, model, few=True)
        loading = time.perf_counter() - started
        searcher.search(texts[0], k)  # caches
        for text in texts:
            started = time.perf_counter()
            (row,) = searcher.encoder.encode([text])
            encoded = time.perf_counter()
            engine.search(index_name, searcher.clauses(row), k)
            searching.append(1000 * (time.perf_counter() - encoded))
            encoding.append(1000 * (encoded - started))
    rows = [{"queries": len(texts), "load_ms": 1000 * loading,
             "encode_ms": statistics.median(encoding),
             "search_ms": statistics.median(searching),
             "search_p95_ms": sorted(searching)[int(0.95 * len(searching))]}]  # fmt: skip
    _show(rows, as_json)


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
