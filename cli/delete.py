"""splade-es delete"""

from __future__ import annotations

import sys

import click

from splade_es.cli.options import index_option, open_engine, url_option


@click.command()
@index_option
@url_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(index_name: str, url: str | None, yes: bool) -> None:
    """Delete an index that splade-es made, with all its documents.

    \b
    Example:
      splade-es delete --index articles --url http://localhost:9200
    """
    with open_engine(url) as engine:
        count = engine.count(index_name)
        if not yes and not sys.stdin.isatty():
            raise click.UsageError("nobody is there to be asked: confirm with --yes")
        if not yes and not click.confirm(
            f"Delete {index_name} with {count:,} documents?", err=True
        ):
            raise click.Abort
        engine.delete(index_name)
    click.echo(f"Deleted {index_name} ({count:,} documents).", err=True)
