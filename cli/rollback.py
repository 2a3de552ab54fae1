"""The command `splade-es rollback`."""

from __future__ import annotations

import click

from splade_es.cli.old_names import old_argument
from splade_es.cli.options import json_option, open_engine, url_option
from splade_es.cli.output import print_json


@click.command()
@old_argument("ALIAS", stands_for="alias")
@click.option("--alias", required=True, help="Name of the alias.")
@url_option
@json_option
def rollback(alias: str, url: str | None, as_json: bool) -> None:
    """Let an alias point to the index that it pointed to before.

    For an alias that `splade-es index --alias` has made. Nothing is deleted.

    \b
    Example:
      splade-es rollback --alias articles --url http://localhost:9200
    """
    with open_engine(url) as engine:
        done = engine.index(alias).rollback()
    if as_json:
        print_json(done)
    else:
        click.echo(f"{alias} points to {done.index}, no longer to {done.previous}")
