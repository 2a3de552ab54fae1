"""The command `splade-es delete`."""

from __future__ import annotations

import sys

import click

from splade_es.cli.options import index_option, json_option, open_engine, url_option
from splade_es.cli.output import print_json
from splade_es.errors import EngineError, IndexMismatch, IndexMissing


@click.command()
@index_option
@url_option
@click.option("--yes", is_flag=True, help="Delete without asking.")
@json_option
def delete(index_name: str, url: str | None, yes: bool, as_json: bool) -> None:
    """Delete an index that splade-es made, with all its documents.

    \b
    Example:
      splade-es delete --index articles --url http://localhost:9200
    """
    with open_engine(url) as engine:
        index = engine.index(index_name)
        documents = None
        try:
            documents = index.count()
        except (IndexMissing, IndexMismatch):
            raise
        except EngineError:
            pass  # it may be damaged, and deleting it is the remedy
        size = "documents that cannot be counted"
        if documents is not None:
            size = f"{documents:,} documents"
        if not yes and not sys.stdin.isatty():
            raise click.UsageError("Nobody can be asked here: confirm with --yes.")
        if not yes and not click.confirm(f"Delete {index_name} with {size}?", err=True):
            raise click.ClickException("Nothing was deleted.")
        index.delete()
    if as_json:
        print_json({"deleted": index_name, "documents": documents})
    else:
        click.echo(f"Deleted {index_name} ({size}).")
