"""The command `splade-es export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from splade_es.cli.options import json_option
from splade_es.cli.output import print_json, progress_bar

if TYPE_CHECKING:
    from splade_es.vectors.export import Format


@click.command()
@click.argument("vectors")
@click.option(
    "--format",
    type=click.Choice(["anserini", "jsonl", "ciff", "npz"]),
    required=True,
    help="anserini: a JsonVectorCollection; jsonl: ids and weights; ciff: an inverted index in the "
    "Common Index File Format; npz: a SciPy CSR matrix.",
)
@click.option("--output", required=True, help="File to write.")
@json_option
def export(vectors: str, format: Format, output: str, as_json: bool) -> None:
    """Write VECTORS, a folder of `splade-es encode`, for another engine.

    \b
    Example:
      splade-es encode corpus.jsonl --model model --output vectors
      splade-es export vectors --format ciff --output articles.ciff
    """
    from splade_es import operations

    with progress_bar("Exporting", "documents") as move:
        done = operations.export(
            vectors, format, output, progress=lambda counts: move(counts.documents, counts.total)
        )
    if as_json:
        print_json({"output": output, "format": format, "documents": done.documents})
    else:
        click.echo(f"{output}: {done.documents:,} documents")
