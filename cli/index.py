"""splade-es index"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from pathlib import Path

import click

from splade_es.cli.options import index_option, json_option, open_engine, url_option
from splade_es.cli.output import print_json
from splade_es.engines.base import FieldType


@click.command()
@click.argument("corpus")
@click.option("--model", required=True, help="SPLADE model: a directory or a hub name.")
@index_option
@url_option
@click.option("--recreate", is_flag=True, help="Delete the index first, if there is one.")
@click.option(
    "--field-type",
    type=click.Choice(["rank_features", "sparse_vector"]),
    help="Field type of a new index.  [default: rank_features where the server has it]",
)
@click.option("--max-length", type=int, help="Tokens of a document.  [default: the model's]")
@click.option("--scale", default=100.0, show_default=True, help="Stored integer = weight x scale.")
@click.option("--top-k", type=int, help="Keep this many terms of a document.")
@click.option("--threshold", default=0.0, help="Drop document terms below this weight.")
@click.option("--rejects", help="File for bad lines.  [default: ./CORPUS.rejects.jsonl]")
@click.option("--fail-fast", is_flag=True, help="Stop at the first bad line.")
@json_option
def index(
    corpus: str,
    model: str,
    index_name: str,
    url: str | None,
    recreate: bool,
    field_type: FieldType | None,
    max_length: int | None,
    scale: float,
    top_k: int | None,
    threshold: float,
    rejects: str | None,
    fail_fast: bool,
    as_json: bool,
) -> None:
    """Encode CORPUS and load it into an index.

    CORPUS is JSON Lines with "_id", "text" and, if you like, "title" and further fields; plain or
    .gz; - for standard input; or a BEIR folder. Loading into an index that is there adds to it.

    \b
    Example:
      splade-es index corpus.jsonl --model model --index articles --url http://localhost:9200
    """
    from tqdm import tqdm

    from splade_es.corpus import read_documents
    from splade_es.encoder import Encoder
    from splade_es.indexing import Summary, index_corpus, index_meta, open_index, rejects_file
    from splade_es.quantize import Quantizer

    quantizer = Quantizer(scale, top_k, threshold)
    if rejects is None:
        # in the current directory, because that of a corpus is often read-only
        rejects = f"{'stdin' if corpus == '-' else Path(corpus).resolve().name}.rejects.jsonl"
    # what is wrong with either file is found before an index is touched
    items = read_documents(corpus)
    first_item = next(items, None)
    if first_item is None:
        raise click.ClickException(f"{corpus}: no documents in it. Check the file.")
    source = first_item.place.rpartition(":")[0]  # in a folder, the file of it that is read
    if os.path.exists(rejects) and os.path.exists(source) and os.path.samefile(rejects, source):
        raise click.UsageError(f"--rejects would overwrite the corpus {source}")
    with rejects_file(Path(rejects)) as file, open_engine(url) as engine:
        encoder = Encoder.load(model, max_length)
        meta = index_meta(encoder, quantizer)
        open_index(engine, index_name, meta, recreate=recreate, field_type=field_type)
        summary = Summary()
        with tqdm(desc="Indexing", unit=" documents", disable=not sys.stderr.isatty()) as bar:
            for summary in index_corpus(
                itertools.chain([first_item], items),
                encoder, quantizer, engine, index_name, file, fail_fast=fail_fast,
            ):  # fmt: skip
                bar.update(summary.read - bar.n)
    if as_json:
        print_json({"index": index_name, **dataclasses.asdict(summary)})
    else:
        rate = summary.indexed / summary.seconds if summary.seconds else 0.0
        click.echo(
            f"{index_name}: {summary.read:,} read, {summary.indexed:,} indexed "
            f"({summary.replaced:,} replaced an earlier one, {summary.empty:,} without any term), "
            f"{summary.rejected:,} rejected; {summary.seconds:.0f} s, {rate:.1f} documents/s"
        )
    if summary.saturated:
        click.echo(
            f"{summary.saturated:,} weights were too large and were clipped: "
            "index anew with a smaller --scale.",
            err=True,
        )
    if first := summary.first_rejected:
        raise click.ClickException(
            f"{summary.rejected:,} of {summary.read:,} lines were rejected, the first at "
            f"{first.place}: {first.reason}. All are in {rejects} with their reasons: "
            "mend these lines and index them again."
        )
