"""The command `splade-es train`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import click

from splade_es.cli.options import json_option, model_option
from splade_es.cli.output import name_options, print_json
from splade_es.training.config import TrainConfig

if TYPE_CHECKING:
    from splade_es.handles import Engine
    from splade_es.progress import TrainProgress

_FIELDS = {
    field.name: field
    for field in dataclasses.fields(TrainConfig)
    if field.default is not dataclasses.MISSING
}


class _TrainCommand(click.Command):
    """Shows the options under the sections that TrainConfig declares."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into a help text."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record and isinstance(param, click.Option):
                field = _FIELDS.get(str(param.name))
                section = field.metadata["section"] if field else "Options"
                sections.setdefault(section, []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each setting of TrainConfig that has a default."""
    hints = get_type_hints(TrainConfig)
    for name, field in reversed(_FIELDS.items()):
        parts = (hints[name], *get_args(hints[name]))
        kind = next((part for part in (bool, int, float) if part in parts), str)
        choices = field.metadata["choices"]
        shown = field.default not in (None, False)
        # no default here: what is not given on the command line may be in --config
        command = click.option(
            f"--{name.replace('_', '-')}",
            type=click.Choice(choices) if choices else kind,
            is_flag=kind is bool,
            default=None,
            hidden=field.metadata["yaml_only"],
            help=field.metadata["help"] + (f"  [default: {field.default}]" if shown else ""),
        )(command)
    return command


@click.command(cls=_TrainCommand)
@click.argument("data", metavar="PAIRS")
@model_option("Training starts from this masked language model.", required=True)
@click.option("--output", required=True, help="Directory for the trained model.")
@click.option(
    "--config",
    "config_file",
    help="YAML file of settings, or the name of a recipe; options win over it. Some settings that "
    "are rarely used can only be set there.",
)
@click.option("--resume", is_flag=True, help="Continue the interrupted run in --output.")
@json_option
@_settings
def train(
    data: str,
    model: str,
    output: str,
    config_file: str | None,
    resume: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a SPLADE model on PAIRS: JSON Lines, plain or compressed, with "query" and "positive".

    "negative" or "negatives" add hard negatives, and "scores" (a teacher's, the positive's first)
    allow --loss margin_mse and kl. A BEIR folder is read too, and so is the training data of
    sentence-transformers (Parquet and saved datasets as well), YAST, light-splade and naver/splade.

    Ctrl-C saves the run, and --resume continues it. On several GPUs: torchrun --nproc-per-node 2
    --no-python splade-es train ... The index of --df-index is one of the engine at SPLADE_ES_URL.

    \b
    Example:
      splade-es train pairs.jsonl --model distilbert-base-uncased --output model --steps 2000
    """
    from splade_es import operations
    from splade_es.cli.signals import stop_event
    from splade_es.encoders.allocator import keep_freed_memory

    given = {name: value for name, value in options.items() if value is not None}
    config = make_config(config_file, given, data=data, model=model, output=output)
    keep_freed_memory()
    with df_engine(config) as engine, stop_event() as stop, closing(_ReadingBar()) as reading:
        for log in operations.train_steps(
            config, resume=resume, engine=engine, stop=stop, reading=reading.move
        ):
            reading.close()
            # of several processes the first one prints; a run that was finished has no means
            if os.environ.get("RANK", "0") != "0" or math.isnan(log.loss):
                continue
            if as_json:
                print_json(log)
            else:
                _print(log)
    if os.environ.get("RANK", "0") != "0":  # of several processes only the first one prints
        return
    if not as_json:
        click.echo(f"Trained {output}.")
    click.echo(f"Next: splade-es index CORPUS --model {output} --index NAME", err=True)


def make_config(
    config_file: str | None, given: dict[str, Any], left_out: tuple[str, ...] = (), **where: str
) -> TrainConfig:
    """The settings of a configuration file, except those that are left out, and of a command line.

    given: options, which win over the file; where: data, model and output.
    """
    from splade_es.training.config_file import read_config

    settings = read_config(config_file) if config_file else {}
    for name in left_out:
        settings.pop(name, None)
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if name in given:  # the length that the file gives is replaced
            settings.pop(other, None)
    return TrainConfig(**{**settings, **given, **where})


@contextmanager
def df_engine(config: TrainConfig) -> Iterator[Engine | None]:
    """The engine at SPLADE_ES_URL if an index is needed, closed at the end."""
    if not config.df_index:
        yield None
        return
    from splade_es.handles import connect

    with connect(os.environ.get("SPLADE_ES_URL")) as engine:
        yield engine


class _ReadingBar:
    """A bar while the training data is read, on a terminal, if that takes more than a moment."""

    def __init__(self) -> None:
        self._what = ""
        self._bar: Any = None

    def move(self, what: str, count: int) -> None:
        from tqdm import tqdm

        if what != self._what:
            self.close()
            self._what = what
            self._bar = tqdm(desc=f"Reading {what}", unit=f" {what}", disable=None, delay=1)
        self._bar.update(count - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _print(log: TrainProgress) -> None:
    for warning in log.warnings:
        said = name_options(warning, click.get_current_context().command)
        click.secho(f"Warning: {said}", fg="yellow", err=True)
    dev = "".join(f"  dev {name} {value:.4f}" for name, value in log.dev.items())
    click.echo(
        f"step {log.step}/{log.steps}  loss {log.loss:.4f}  "
        f"active terms: query {log.query_terms:.0f}, document {log.doc_terms:.0f}  "
        f"{log.steps_per_second:.2f} steps/s{dev}{'  best' if dev and log.best else ''}",
        err=True,
    )
