"""splade-es search"""

from __future__ import annotations

import click

from splade_es.cli.options import json_option, open_engine, query_options
from splade_es.cli.output import print_json


@click.command()
@click.argument("query")
@query_options
@click.option("-k", default=10, show_default=True, help="Results, at most 10,000.")
@json_option
def search(
    query: str,
    index_name: str,
    url: str | None,
    model: str | None,
    query_top_k: int | None,
    query_threshold: float,
    k: int,
    as_json: bool,
) -> None:
    """Search an index for QUERY, with the model that the index remembers.

    \b
    Example:
      splade-es search "heart attack" --index articles -k 5
    """
    from splade_es.search import Searcher, snippet

    with open_engine(url) as engine:
        searcher = Searcher(
            engine, index_name, model, top_k=query_top_k, threshold=query_threshold, few=True
        )
        hits = searcher.search(query, k)
    for rank, hit in enumerate(hits, 1):
        if as_json:
            print_json({"rank": rank, "id": hit.id, "score": hit.score, **{"source": hit.source}})
            continue
        title = hit.source.get("title") or ""
        click.echo(f"{rank:>3}. {hit.score:8.3f}  {hit.id}{f'  {title}' if title else ''}")
        click.echo(f"               {snippet(hit.source.get('text', ''))}")
    if not hits:
        click.echo("No document has a term of this query.", err=True)
