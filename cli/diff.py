"""The command `splade-es diff`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from splade_es.cli.options import json_option, k_option, open_engine, url_option
from splade_es.cli.output import print_json, print_table, progress_bar

if TYPE_CHECKING:
    from splade_es.inspection.diff import Change


@click.command()
@click.argument("before")
@click.argument("after")
@click.argument("what", required=False)
@click.option("--query", is_flag=True, help="Take WHAT for a query, not a document.")
@click.option("--queries", help="Compare two indices by the results of the queries in this file.")
@k_option(10)
@click.option(
    "--tokens", type=click.IntRange(0), default=20, show_default=True,
    help="Tokens to show, the strongest first.",
)  # fmt: skip
@url_option
@json_option
def diff(
    before: str,
    after: str,
    what: str | None,
    query: bool,
    queries: str | None,
    k: int,
    tokens: int,
    url: str | None,
    as_json: bool,
) -> None:
    """Show what changes from one model to another, or from one index to another.

    With WHAT, a text or a corpus (JSON Lines or a BEIR folder), BEFORE and AFTER are models.
    Without it they are indices, each searched with the model that made it.

    \b
    Example:
      splade-es diff model-1 model-2 "heart attack"
      splade-es diff model-1 model-2 corpus.jsonl
      splade-es diff articles-1 articles-2 --queries queries.jsonl --url http://localhost:9200
    """
    from splade_es.encoders.allocator import keep_freed_memory

    keep_freed_memory()
    if what is None:
        if query:
            raise click.UsageError("--query is for a text.")
        change = _diff_indices(before, after, queries, k, url)
        _print(change, "Queries whose results change most", "share that stays", tokens, as_json)
    elif queries:
        raise click.UsageError("--queries is for two indices: leave out WHAT.")
    elif what == "-" or os.path.exists(what) or what.endswith((".jsonl", ".gz")):
        if query:
            raise click.UsageError("--query is for a text.")
        change = _diff_corpus(before, after, what)
        _print(change, "Documents that change most", "cosine of the vectors", tokens, as_json)
    else:
        _diff_text(before, after, what, query, tokens, as_json)


def _diff_text(before: str, after: str, text: str, query: bool, tokens: int, as_json: bool) -> None:
    from splade_es.encoders.base import check_text
    from splade_es.encoders.load import load_document_encoder, load_query_encoder
    from splade_es.inspection.diff import diff_texts

    check_text(text)
    load = load_query_encoder if query else load_document_encoder
    changes = diff_texts(load(before), load(after), text)
    if as_json:
        for change in changes:
            print_json(change)
        return
    rows = []
    for token, *weights in changes[:tokens]:
        what = f"{weights[1] - weights[0]:+.3f}"
        if not all(weights):
            what = "lost" if weights[0] else "gained"
        rows.append([token, *(f"{weight:.3f}" if weight else "" for weight in weights), what])
    print_table("", ["token", "before", "after", "change"], rows)
    lost, gained = sum(not c.after for c in changes), sum(not c.before for c in changes)
    click.echo(f"{len(changes) - lost - gained} tokens in both, {gained} gained, {lost} lost")


def _diff_corpus(before: str, after: str, corpus: str) -> Change:
    from splade_es.data.corpus import open_corpus
    from splade_es.encoders.torch_encoder import Encoder
    from splade_es.inspection.diff import diff_corpus

    documents, _ = open_corpus(corpus)
    encoders = Encoder.load(before), Encoder.load(after)
    with progress_bar("Encoding", "documents") as move:
        return diff_corpus(*encoders, (move(n, None) or item for n, item in enumerate(documents)))


def _diff_indices(before: str, after: str, queries: str | None, k: int, url: str | None) -> Change:
    from splade_es.data.trec_beir import read_queries
    from splade_es.inspection.diff import diff_indices

    asked = read_queries(queries) if queries else []
    with open_engine(url) as engine:
        old, new = (engine.index(name).searcher(interactive=False) for name in (before, after))
        return diff_indices(old, new, asked, k)


def _print(change: Change, moved: str, alike: str, tokens: int, as_json: bool) -> None:
    if as_json:
        print_json(change)
        return
    rows = [
        ["documents", *(f"{n:,}" for n in change.documents)],
        ["active terms of a document", *(f"{n:.1f}" for n in change.active)],
    ]
    print_table("", ["", "before", "after"], rows)
    for title, sign in (("In more documents", 1), ("In fewer documents", -1)):
        found = [token for token in change.tokens if (token.after - token.before) * sign > 0]
        if found:
            print_table(
                title,
                ["token", "before", "after"],
                [[t.token, f"{t.before:,}", f"{t.after:,}"] for t in found[:tokens]],
            )
    if change.alike is not None:
        rows = [[item.id, f"{item.alike:.3f}"] for item in change.moved]
        print_table(moved, ["id", alike], [*rows, ["mean of all", f"{change.alike:.3f}"]])
