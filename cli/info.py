"""splade-es info"""

from __future__ import annotations

import click

from splade_es.cli.options import json_option, open_engine, url_option
from splade_es.cli.output import print_json, print_table


@click.command()
@click.option("--index", "index_name", help="Name of an index.  [default: list them all]")
@url_option
@json_option
def info(index_name: str | None, url: str | None, as_json: bool) -> None:
    """Say which engine answers, and what is in an index and which model made it.

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
        record = {
            **facts,
            "index": index_name,
            **engine.stats(index_name)._asdict(),
            **engine.meta(index_name).to_dict(),
        }
    if as_json:
        print_json(record)
    else:
        parts = record.pop("parts")
        rows = [[name, str(value)] for name, value in record.items()]
        print_table("", ["", ""], rows)
        if parts:
            total = sum(parts.values())
            shares = [[name, f"{size:,}", f"{size / total:.0%}"] for name, size in parts.items()]
            print_table("", ["part", "bytes", "share"], shares)
