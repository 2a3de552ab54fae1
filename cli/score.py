"""splade-es score"""

from __future__ import annotations

import dataclasses
import sys
import time

import click

from splade_es.cli.options import json_option
from splade_es.cli.output import print_json


@click.command()
@click.argument("lines")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    required=True,
    help="Cross-encoder, sentence encoder or SPLADE model: a directory or a hub name. Give several "
    "to average them.",
)
@click.option(
    "--scale",
    type=click.FloatRange(0, min_open=True),
    help="Range of the scores of several teachers.  [default: 30]",
)
@click.option("--output", required=True, help="File for the lines with their scores.")
@json_option
def score(
    lines: str, teachers: tuple[str, ...], scale: float | None, output: str, as_json: bool
) -> None:
    """Add "scores" of a teacher to the training lines LINES, for --loss margin_mse and kl.

    LINES is JSON Lines with "query", "positive" and "negatives", plain or .gz, as `mine` writes
    them. One teacher's scores are written as they are: a cross-encoder's logits, 20 times a
    sentence encoder's cosine, or a SPLADE model's dot products. Those of several are brought to
    0..1 in each line, averaged, and multiplied by --scale.

    \b
    Example:
      splade-es score mined.jsonl --teacher CROSS_ENCODER --output scored.jsonl
    """
    from tqdm import tqdm

    from splade_es.training.scoring import SCALE, Scored
    from splade_es.training.scoring import score as run

    if scale is not None and len(teachers) == 1:
        raise click.UsageError("--scale is for several teachers; one teacher's scores stay raw")
    started = time.perf_counter()
    scored = Scored()
    with tqdm(desc="Scoring", unit=" lines", disable=not sys.stderr.isatty()) as bar:
        for scored in run(lines, teachers, output, SCALE if scale is None else scale):
            bar.total = scored.total
            bar.update(scored.lines - bar.n)
    seconds = time.perf_counter() - started
    if as_json:
        record = {"output": output, "teachers": teachers, **dataclasses.asdict(scored)}
        print_json({**record, "seconds": seconds})
    click.echo(
        f"{output}: {scored.lines:,} lines with {scored.pairs:,} scores ({scored.bare:,} lines "
        f"without negatives); {seconds:.0f} s. "
        f"Next: splade-es train {output} --loss margin_mse --model MODEL --output DIR",
        err=True,
    )
