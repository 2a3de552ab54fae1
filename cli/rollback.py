"""splade-es rollback"""

from __future__ import annotations

import click

from splade_es.cli.options import json_option, open_engine, url_option
from splade_es.cli.output import print_json


@click.command()
@click.argument("alias")
@url_option
@json_option
def rollback(alias: str, url: str | None, as_json: bool) -> None:
    """Let ALIAS stand for the index that was built before its present one.

    For an alias that `splade-es index --alias` has made. Nothing is deleted.

    \b
    Example:
      splade-es rollback articles --url http://localhost:9200
    """
    from splade_es.indexing.aliases import rollback as go_back

    with open_engine(url) as engine:
        present, earlier = go_back(engine, alias)
    if as_json:
        print_json({"alias": alias, "index": earlier, "before": present})
    else:
        click.echo(f"{alias} stands for {earlier}, no longer for {present}")
