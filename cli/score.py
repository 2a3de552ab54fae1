"""The command `splade-es score`."""

from __future__ import annotations

import click

from splade_es.cli.old_names import old_option
from splade_es.cli.options import json_option
from splade_es.cli.output import print_json, progress_bar, to_json


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
    "--teacher-scale",
    type=click.FloatRange(0, min_open=True),
    help="Range of the scores of several teachers.  [default: 30]",
)
@old_option("--scale", stands_for="teacher_scale")
@click.option("--output", required=True, help="File for the lines with their scores.")
@json_option
def score(
    lines: str, teachers: tuple[str, ...], teacher_scale: float | None, output: str, as_json: bool
) -> None:
    """Add "scores" of a teacher to the training lines LINES, for --loss margin_mse and kl.

    LINES is JSON Lines with "query", "positive" and "negatives", plain or compressed, as
    `splade-es mine` writes them. One teacher's scores are written as they are: a cross-encoder's
    logits, 20 times a sentence encoder's cosine, or a SPLADE model's dot products. Those of several
    are brought to 0..1 in each line, averaged, and multiplied by --teacher-scale.

    \b
    Example:
      splade-es score mined.jsonl --teacher CROSS_ENCODER --output scored.jsonl
    """
    from splade_es import operations
    from splade_es.encoders.allocator import keep_freed_memory

    keep_freed_memory()
    with progress_bar("Scoring", "lines") as move:
        done = operations.score(
            lines,
            teachers,
            output,
            teacher_scale=teacher_scale,
            progress=lambda counts: move(counts.lines, counts.total),
        )
    if as_json:
        print_json({"output": output, "teachers": teachers, **to_json(done)})
    else:
        click.echo(
            f"{output}: {done.lines:,} lines with {done.pairs:,} scores ({done.bare:,} lines "
            f"without negatives); {done.seconds:.0f} s"
        )
    click.echo(
        f"Next: splade-es train {output} --loss margin_mse --model MODEL --output DIR", err=True
    )
