"""The command `splade-es info`."""

from __future__ import annotations

import click

from splade_es.cli.options import json_option, open_engine, url_option
from splade_es.cli.output import print_json, print_table, to_json


@click.command()
@click.option("--index", "index_name", help="Name of the index.  [default: list all indices]")
@url_option
@json_option
def info(index_name: str | None, url: str | None, as_json: bool) -> None:
    """Show which engine answers, and what an index holds and which model made it.

    \b
    Example:
      splade-es info --index articles --url http://localhost:9200
    """
    with open_engine(url) as engine:
        facts = {"engine": engine.name, "version": engine.version, "where": engine.where}
        if index_name is None:
            indices = engine.indices()
            if as_json:
                print_json({**facts, "indices": indices})
            else:
                click.echo(f"{engine.name} {engine.version} at {engine.where}")
                for name in indices:
                    click.echo(f"  {name}")
            return
        index = engine.index(index_name)
        record = {**facts, "index": index_name, **to_json(index.stats()), **to_json(index.meta())}
    if as_json:
        print_json(record)
        return
    parts = record.pop("parts")
    print_table("", ["", ""], [[name, str(value)] for name, value in record.items()])
    if parts:
        total = sum(parts.values())
        shares = [[name, f"{size:,}", f"{size / total:.0%}"] for name, size in parts.items()]
        print_table("", ["part", "bytes", "share"], shares)
