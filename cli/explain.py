"""The command `splade-es explain`."""

from __future__ import annotations

from typing import Any

import click

from splade_es.cli.options import json_option, open_engine, query_options
from splade_es.cli.output import bar, print_json, print_table, to_json


@click.command()
@click.argument("query")
@click.argument("document_id")
@query_options
@json_option
def explain(
    query: str,
    document_id: str,
    index_name: str,
    url: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Show why the document DOCUMENT_ID has its score for QUERY.

    Each token that both have adds its query weight times its stored weight; the words are those
    that caused it on either side. Below is what BM25 would have made of the same query.

    \b
    Example:
      splade-es explain "heart attack" d42 --index articles
    """
    from splade_es.inspection.explain import BM25_DEPTH

    with open_engine(url) as engine:
        found = engine.index(index_name).explain(query, document_id, **settings)
    if as_json:
        record = to_json(found)
        del record["body"]  # whoever asks knows it
        print_json(record)
        return
    strongest = max((part.score for part in found.contributions), default=1.0)
    print_table(
        "",
        ["token", "adds", "", "query", "stored", "query word", "document word"],
        [
            [
                part.token,
                f"{part.score:.3f}",
                bar(part.score / strongest),
                f"{part.query_weight:.3f}",
                str(part.stored),
                part.query_word,
                part.document_word,
            ]
            for part in found.contributions
        ],
        text=["", "query word", "document word"],
    )
    click.echo(f"score {found.score:.3f}, of {len(found.contributions)} tokens")
    if found.unmatched:
        tokens = " ".join(token.token for token in found.unmatched)
        click.echo(f"not in the document: {tokens}")
    if found.bm25 is None:
        click.echo(f"BM25: not among the first {BM25_DEPTH:,}")
    else:
        click.echo(f"BM25: {found.bm25:.3f}, place {found.bm25_rank:,}")
