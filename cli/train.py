"""splade-es train"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import click

from splade_es.cli.output import print_json
from splade_es.training.config import TrainConfig, read_config


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each setting of TrainConfig that has a default."""
    hints = get_type_hints(TrainConfig)
    for field in reversed(dataclasses.fields(TrainConfig)):
        if field.default is dataclasses.MISSING:
            continue
        parts = (hints[field.name], *get_args(hints[field.name]))  # a setting, or one or None
        choices = [c for part in parts for c in get_args(part) if isinstance(c, str)]
        kind = next((part for part in (bool, int, float) if part in parts), str)
        shown = field.default not in (None, False)
        default = f"  [default: {field.default}]" if shown else ""
        # no default here: what is not given on the command line may stand in --config
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            type=click.Choice(choices) if choices else kind,
            is_flag=kind is bool,
            default=None,
            help=field.metadata["help"] + default,
        )(command)
    return command


@click.command()
@click.argument("pairs")
@click.option("--model", required=True, help="Masked language model to start from: DIR or name.")
@click.option("--output", required=True, help="Directory for the trained model.")
@click.option(
    "--config",
    "config_file",
    help="YAML file of settings, or a recipe's name; options win over it.",
)
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --output.")
@click.option("--json", "as_json", is_flag=True, help="Print the log as lines of JSON.")
@_settings
def train(
    pairs: str,
    model: str,
    output: str,
    config_file: str | None,
    resume: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a SPLADE model on PAIRS: JSON Lines, plain or .gz, with "query" and "positive".

    "negative" or "negatives" add hard negatives, and "scores" (a teacher's, the positive's first)
    allow --loss margin_mse and kl. A BEIR folder is read too, and so is the training data of
    sentence-transformers (Parquet and saved datasets as well), YAST, light-splade and naver/splade.

    Ctrl-C saves the run, and --resume goes on with it. On several GPUs: torchrun --nproc-per-node 2
    --no-python splade-es train ...

    \b
    Example:
      splade-es train pairs.jsonl --model distilbert-base-uncased --output model --steps 2000
    """
    from splade_es.training.loop import train as run

    settings = read_config(config_file) if config_file else {}
    given = {name: value for name, value in options.items() if value is not None}
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if name in given:  # the recipe's own measure of length gives way
            settings.pop(other, None)
    settings |= given
    config = TrainConfig(**{**settings, "data": pairs, "model": model, "output": output})
    for log in run(config, resume):
        if as_json:
            print_json(log._asdict())
            continue
        dev = "".join(f"  dev {name} {value:.4f}" for name, value in log.dev.items())
        for alarm in log.alarms:
            click.secho(f"Warning: {alarm}", fg="yellow", err=True)
        click.echo(
            f"step {log.step}/{log.steps}  loss {log.loss:.4f}  "
            f"active terms: query {log.query_terms:.0f}, document {log.doc_terms:.0f}  "
            f"{log.steps_per_second:.2f} steps/s{dev}{'  best' if dev and log.best else ''}",
            err=True,
        )
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return
    click.echo(
        f"Trained {output}. Next: splade-es index CORPUS --model {output} --index NAME", err=True
    )
