"""splade-es mine"""

from __future__ import annotations

import dataclasses
import sys

import click

from splade_es.cli.options import index_option, json_option, open_engine, url_option
from splade_es.cli.output import print_json
from splade_es.limits import MAX_K


@click.command()
@click.argument("data")
@index_option
@url_option
@click.option(
    "--with",
    "method",
    type=click.Choice(["model", "bm25"]),
    default="model",
    show_default=True,
    help="What searches: the index's model, or the engine's BM25.",
)
@click.option("--model", help="Where the model is now, if it has moved.")
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
    help="Leave out this many of the best that are no known positives: they often are positives.",
)
@click.option(
    "--negatives",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Draw this many for a query; 0 takes all.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the draw.")
@click.option("--output", required=True, help="File for the training lines.")
@json_option
def mine(
    data: str,
    index_name: str,
    url: str | None,
    method: str,
    model: str | None,
    split: str,
    depth: int,
    skip_top: int,
    negatives: int,
    seed: int,
    output: str,
    as_json: bool,
) -> None:
    """Find hard negatives for DATA in an index, and write training lines.

    DATA is a BEIR folder, or JSON Lines with "query" and "positive", plain or .gz. Negatives are
    what the index finds for a query and what is none of its positives, by "positive_id" or by text.

    \b
    Example:
      splade-es mine pairs.jsonl --index articles --output mined.jsonl
    """
    from tqdm import tqdm

    from splade_es.cli.mine import mine as run
    from splade_es.search.searcher import Searcher
    from splade_es.training.mining import Mined

    if method == "bm25" and model:
        raise click.UsageError("--with bm25 searches without a --model")
    if skip_top >= depth:
        raise click.UsageError(f"--skip-top {skip_top} leaves nothing of --depth {depth}")
    mined = Mined()
    with open_engine(url) as engine:
        searcher = Searcher(engine, index_name, model) if method == "model" else None
        with tqdm(desc="Mining", unit=" queries", disable=not sys.stderr.isatty()) as bar:
            for mined in run(
                data, engine, index_name, output, searcher=searcher, split=split, depth=depth,
                skip_top=skip_top, negatives=negatives, seed=seed,
            ):  # fmt: skip
                bar.total = mined.total
                bar.update(mined.queries - bar.n)
    if as_json:
        print_json({"index": index_name, "output": output, **dataclasses.asdict(mined)})
    click.echo(
        f"{output}: {mined.lines:,} lines of {mined.queries:,} queries, with "
        f"{mined.negatives / mined.lines:.1f} negatives on average ({mined.bare:,} without any). "
        f"Next: splade-es score {output} --teacher CROSS_ENCODER --output scored.jsonl, "
        f"or splade-es train {output} --model MODEL --output DIR",
        err=True,
    )
