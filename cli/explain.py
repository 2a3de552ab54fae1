"""splade-es explain"""

from __future__ import annotations

import click

from splade_es.cli.options import json_option, open_engine, query_options
from splade_es.cli.output import bar, print_json, print_table


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
    model: str | None,
    query_top_k: int | None,
    query_threshold: float,
    as_json: bool,
) -> None:
    """Show why the document DOCUMENT_ID has its score for QUERY.

    Each token that both have adds its query weight times its stored weight; the words are those
    that caused it on either side. Below stands what BM25 would have made of the same query.

    \b
    Example:
      splade-es explain "heart attack" d42 --index articles
    """
    from splade_es.encoders.load import load_text_encoder
    from splade_es.inspection.explain import BM25_DEPTH
    from splade_es.inspection.explain import explain as explained
    from splade_es.search.searcher import Searcher

    with open_engine(url) as engine:
        searcher = Searcher(
            engine, index_name, model, top_k=query_top_k, threshold=query_threshold, few=True
        )
        documents = load_text_encoder(
            searcher.encoder.name, searcher.meta.max_length, side="document", few=True
        )
        found = explained(searcher, documents, query, document_id)
    if as_json:
        record = found._asdict()
        del record["body"]  # which who asks knows
        print_json(
            {
                **record,
                "contributions": [part._asdict() for part in found.contributions],
                "unmatched": [token._asdict() for token in found.unmatched],
            }
        )
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
