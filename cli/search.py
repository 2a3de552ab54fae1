"""The command `splade-es search`."""

from __future__ import annotations

from typing import Any

import click

from splade_es.cli.options import json_option, k_option, mode_option, open_engine, query_options
from splade_es.cli.output import print_json, printable, snippet

# Tokens of a hit that --explain lists.
_SHOWN = 8


@click.command()
@click.argument("query")
@query_options
@mode_option
@k_option(10)
@click.option("--explain", is_flag=True, help="Show what each token adds to a score.")
@json_option
def search(
    query: str,
    index_name: str,
    url: str | None,
    k: int,
    explain: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Search an index for QUERY, with the model that made the index.

    \b
    Example:
      splade-es search "heart attack" --index articles -k 5
    """
    from splade_es.features import token_of

    with open_engine(url) as engine:
        hits = engine.index(index_name).search(query, k, contributions=explain, **settings)
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
