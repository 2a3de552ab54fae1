"""splade-es encode"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from splade_es.cli.encoding import (
    Encoding,
    encoding_options,
    fail_on_rejects,
    open_corpus,
    rejects_options,
    warn_of_saturation,
)
from splade_es.cli.options import json_option
from splade_es.cli.output import print_json


@click.command()
@click.argument("corpus")
@click.option("--output", required=True, help="Folder for the vectors.")
@click.option("--resume", is_flag=True, help="Go on with the folder where encoding stopped.")
@encoding_options
@rejects_options
@json_option
def encode(
    corpus: str,
    output: str,
    resume: bool,
    rejects: str | None,
    fail_fast: bool,
    as_json: bool,
    **encoding: Any,
) -> None:
    """Encode CORPUS into a folder of Parquet files.

    `splade-es index FOLDER` loads it into as many indexes as you like, without the model, and
    `splade-es export` writes it for other engines. CORPUS is what `splade-es index` takes. An
    interrupted run goes on with --resume.

    \b
    Example:
      splade-es encode corpus.jsonl --model model --output vectors
      splade-es index vectors --index articles --url http://localhost:9200
    """
    from tqdm import tqdm

    from splade_es.data.rejects import rejects_file
    from splade_es.errors import Interrupted
    from splade_es.indexing.load import index_meta
    from splade_es.training.loop import Progress
    from splade_es.vectors.parquet import open_vectors, write_vectors

    how = Encoding(**encoding)
    how.check()
    quantizer = how.quantizer()
    items, rejects, _ = open_corpus(corpus, rejects)
    started = time.perf_counter()
    done = Progress(0, 0)
    with rejects_file(Path(rejects), fail_fast) as file, how.open() as encoder:
        meta = index_meta(encoder, quantizer)
        with tqdm(desc="Encoding", unit=" documents", disable=not sys.stderr.isatty()) as bar:
            try:
                for done in write_vectors(
                    output, items, encoder, quantizer, meta, file,
                    precision=how.precision or "auto", resume=resume,
                ):  # fmt: skip
                    bar.update(done.encoded - bar.n)
            except KeyboardInterrupt as interrupt:
                raise Interrupted(
                    f"Interrupted: {done.encoded:,} documents were encoded and are in {output}",
                    "Go on with --resume.",
                ) from interrupt
    seconds = time.perf_counter() - started
    total = open_vectors(output).documents
    if as_json:
        print_json(
            {
                "output": output, "documents": total, "encoded": done.encoded,
                "rejected": file.count, "saturated": done.saturated, "seconds": seconds,
            }
        )  # fmt: skip
    else:
        click.echo(
            f"{output}: {total:,} documents, {done.encoded:,} of them encoded now, "
            f"{file.count:,} rejected; {seconds:.0f} s, {done.encoded / seconds:.1f} documents/s"
        )
    warn_of_saturation(done.saturated)
    fail_on_rejects(file.count, (total or 0) + file.count, file.first, rejects)
