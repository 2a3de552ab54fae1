"""splade-es search"""

from __future__ import annotations

import click

from splade_es.cli.options import json_option, open_engine, query_options
from splade_es.cli.output import print_json, printable

# Tokens of a hit that are listed, if they are to be.
_SHOWN = 8


@click.command()
@click.argument("query")
@query_options
@click.option("-k", default=10, show_default=True, help="Results, at most 10,000.")
@click.option("--explain", is_flag=True, help="Show what each token adds to a score.")
@json_option
def search(
    query: str,
    index_name: str,
    url: str | None,
    model: str | None,
    query_top_k: int | None,
    query_threshold: float,
    k: int,
    explain: bool,
    as_json: bool,
) -> None:
    """Search an index for QUERY, with the model that the index remembers.

    \b
    Example:
      splade-es search "heart attack" --index articles -k 5
    """
    from splade_es.cli.output import snippet
    from splade_es.features import token_of
    from splade_es.search.searcher import Searcher

    with open_engine(url) as engine:
        searcher = Searcher(
            engine, index_name, model, top_k=query_top_k, threshold=query_threshold, few=True
        )
        hits = searcher.search(query, k, explain)
    for rank, hit in enumerate(hits, 1):
        parts = sorted(hit.contributions.items(), key=lambda part: (-part[1], part[0]))
        scores = {token_of(feature): score for feature, score in parts}
        if as_json:
            found = {"rank": rank, "id": hit.id, "score": hit.score, "source": hit.source}
            print_json({**found, "contributions": scores} if explain else found)
            continue
        title = str(hit.source.get("title") or "")
        click.echo(printable(f"{rank:>3}. {hit.score:8.3f}  {hit.id}{title and f'  {title}'}"))
        click.echo(f"               {printable(snippet(str(hit.source.get('text') or '')))}")
        if explain:
            strongest = [f"{token} {score:.3f}" for token, score in [*scores.items()][:_SHOWN]]
            more = f", {len(scores) - _SHOWN} more" if len(scores) > _SHOWN else ""
            click.echo(f"               {' + '.join(strongest)}{more}")
    if not hits:
        click.echo("No document has a term of this query.", err=True)
