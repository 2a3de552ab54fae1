"""splade-es delete"""

from __future__ import annotations

import sys

import click

from splade_es.cli.options import index_option, open_engine, url_option
from splade_es.errors import EngineError, IndexMismatch, IndexMissing


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
        try:
            size = f"{engine.count(index_name):,} documents"
        except (IndexMissing, IndexMismatch):
            raise
        except EngineError:  # damaged, perhaps: to delete it is the remedy
            size = "documents that cannot be counted"
        if not yes and not sys.stdin.isatty():
            raise click.UsageError("nobody is there to be asked: confirm with --yes")
        if not yes and not click.confirm(f"Delete {index_name} with {size}?", err=True):
            raise click.ClickException("Nothing was deleted.")
        engine.delete(index_name)
    click.echo(f"Deleted {index_name} ({size}).", err=True)
