"""The command `splade-es mine`."""

from __future__ import annotations

from typing import Any

import click

from splade_es.cli.old_names import old_option
from splade_es.cli.options import (
    index_option,
    json_option,
    mode_option,
    moved_model_option,
    open_engine,
    url_option,
)
from splade_es.cli.output import print_json, progress_bar, to_json
from splade_es.limits import MAX_K


@click.command()
@click.argument("data")
@index_option
@url_option
@mode_option
@old_option("--with", stands_for="mode", words={"model": "splade"})
@moved_model_option
@click.option(
    "--split", default="train", show_default=True, help="Judgements of a folder: qrels/SPLIT.tsv."
)
@click.option(
    "--depth",
    type=click.IntRange(1, MAX_K),
    default=100,
    show_default=True,
    help="Hits of a query to take negatives from.",
)
@click.option(
    "--skip-top",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Leave out this many of the best hits that are not known positives: often they are "
    "positives that nobody judged.",
)
@click.option(
    "--negatives",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Hard negatives drawn for a query; 0 takes all.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
@click.option("--output", required=True, help="File for the training lines.")
@json_option
def mine(
    data: str, index_name: str, url: str | None, output: str, as_json: bool, **settings: Any
) -> None:
    """Find hard negatives for DATA in an index, and write training lines.

    DATA is a BEIR folder, or JSON Lines with "query" and "positive", plain or compressed. Negatives
    are documents that the index finds for a query and that are none of its positives, by
    "positive_id" or by text.

    \b
    Example:
      splade-es mine pairs.jsonl --index articles --output mined.jsonl
    """
    with open_engine(url) as engine, progress_bar("Mining", "queries") as move:
        done = engine.index(index_name).mine(
            data, output, progress=lambda counts: move(counts.queries, counts.total), **settings
        )
    if as_json:
        print_json({"index": index_name, "output": output, **to_json(done)})
    else:
        click.echo(
            f"{output}: {done.lines:,} lines of {done.queries:,} queries, with "
            f"{done.negatives / done.lines:.1f} negatives on average ({done.bare:,} without any)"
        )
    click.echo(
        f"Next: splade-es score {output} --teacher CROSS_ENCODER --output scored.jsonl, "
        f"or splade-es train {output} --model MODEL --output DIR",
        err=True,
    )
