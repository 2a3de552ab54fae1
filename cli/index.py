"""splade-es index"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from splade_es.cli.encoding import (
    Encoding,
    default_rejects,
    encoding_options,
    fail_on_rejects,
    open_corpus,
    rejects_options,
    warn_of_saturation,
)
from splade_es.cli.options import index_option, json_option, open_engine, url_option
from splade_es.cli.output import print_json
from splade_es.engines.base import FieldType


@click.command()
@click.argument("corpus")
@index_option
@url_option
@click.option("--recreate", is_flag=True, help="Delete the index first, if there is one.")
@click.option(
    "--field-type",
    type=click.Choice(["rank_features", "sparse_vector"]),
    help="Field type of a new index.  [default: rank_features where the server has it]",
)
@encoding_options
@rejects_options
@json_option
def index(
    corpus: str,
    index_name: str,
    url: str | None,
    recreate: bool,
    field_type: FieldType | None,
    rejects: str | None,
    fail_fast: bool,
    as_json: bool,
    **encoding: Any,
) -> None:
    """Encode CORPUS and load it into an index.

    CORPUS is JSON Lines with "_id", "text" and, if you like, "title" and further fields; plain or
    .gz; - for standard input; or a BEIR folder; or a folder that `splade-es encode` has written,
    which needs no --model. Loading into an index that is there adds to it.

    \b
    Example:
      splade-es index corpus.jsonl --model model --index articles --url http://localhost:9200
    """
    from contextlib import ExitStack

    from tqdm import tqdm

    from splade_es.indexing import Summary, index_corpus, index_meta, open_index
    from splade_es.rejects import rejects_file
    from splade_es.vectors import encode_documents, is_vector_folder, open_vectors, read_vectors

    how = Encoding(**encoding)
    with ExitStack() as stack:
        if is_vector_folder(corpus):
            if given := [name for name, value in encoding.items() if value is not None]:
                raise click.UsageError(
                    f"{corpus} holds vectors, made by `splade-es encode`: "
                    f"--{given[0].replace('_', '-')} would change nothing"
                )
            folder = open_vectors(corpus)
            meta, vocabulary = folder.meta, folder.vocabulary
            rejects = rejects or default_rejects(corpus)
            encoded = read_vectors(folder)
            file = stack.enter_context(rejects_file(Path(rejects), fail_fast))
            engine = stack.enter_context(open_engine(url))
        else:
            how.check()
            quantizer = how.quantizer()
            items, rejects = open_corpus(corpus, rejects)
            file = stack.enter_context(rejects_file(Path(rejects), fail_fast))
            engine = stack.enter_context(open_engine(url))
            encoder = stack.enter_context(how.open())
            meta, vocabulary = index_meta(encoder, quantizer), encoder.vocabulary
            encoded = encode_documents(items, encoder, quantizer, file)
        open_index(engine, index_name, meta, recreate=recreate, field_type=field_type)
        summary = Summary()
        with tqdm(desc="Indexing", unit=" documents", disable=not sys.stderr.isatty()) as bar:
            for summary in index_corpus(encoded, vocabulary, engine, index_name, file):
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
    warn_of_saturation(summary.saturated)
    fail_on_rejects(summary.rejected, summary.read, summary.first_rejected, rejects)
