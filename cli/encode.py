"""The command `splade-es encode`."""

from __future__ import annotations

from typing import Any

import click

from splade_es.cli.options import encoding_options, json_option, model_option, rejects_options
from splade_es.cli.output import (
    fail_on_rejects,
    print_json,
    progress_bar,
    to_json,
    warn_of_saturation,
    warn_of_truncation,
)


@click.command()
@click.argument("corpus")
@click.option("--output", required=True, help="Folder for the vectors.")
@click.option("--resume", is_flag=True, help="Continue the folder where encoding stopped.")
@model_option("It encodes CORPUS.", required=True)
@encoding_options
@rejects_options("lines", "CORPUS")
@json_option
def encode(corpus: str, output: str, model: str, as_json: bool, **settings: Any) -> None:
    """Encode CORPUS into a folder of Parquet files.

    `splade-es index FOLDER` loads it into as many indexes as you like, without the model, and
    `splade-es export` writes it for other engines. CORPUS is what `splade-es index` takes. An
    interrupted run continues with --resume.

    \b
    Example:
      splade-es encode corpus.jsonl --model model --output vectors
      splade-es index vectors --index articles --url http://localhost:9200
    """
    from splade_es import operations
    from splade_es.cli.signals import sigterm_as_interrupt
    from splade_es.encoders.allocator import keep_freed_memory

    keep_freed_memory()
    with sigterm_as_interrupt(), progress_bar("Encoding", "documents") as move:
        done = operations.encode(
            corpus, output, model, progress=lambda counts: move(counts.encoded, None), **settings
        )
    if as_json:
        print_json({"output": output, **to_json(done)})
    else:
        click.echo(
            f"{output}: {done.documents:,} documents, {done.encoded:,} of them encoded now, "
            f"{done.rejected:,} rejected; {done.seconds:.0f} s, "
            f"{done.encoded / done.seconds:.1f} documents/s"
        )
    warn_of_saturation(done.saturated)
    warn_of_truncation(done.truncated, done.encoded, done.max_length)
    fail_on_rejects(
        done.rejected, done.documents + done.rejected, done.first_rejected, done.rejects
    )
