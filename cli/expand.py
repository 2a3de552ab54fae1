"""The command `splade-es expand`."""

from __future__ import annotations

import click

from splade_es.cli.old_names import old_option
from splade_es.cli.options import json_option, model_option
from splade_es.cli.output import bar, print_json, print_table


@click.command()
@click.argument("text")
@model_option("It expands TEXT.", required=True)
@click.option("--query", is_flag=True, help="Take TEXT for a query, not a document.")
@click.option(
    "--tokens", type=click.IntRange(1), default=30, show_default=True,
    help="Tokens to show, the strongest first.",
)  # fmt: skip
@old_option("-k", stands_for="tokens")
@json_option
def expand(text: str, model: str, query: bool, tokens: int, as_json: bool) -> None:
    """Show which tokens stand for TEXT, with their weights and the words that caused them.

    As a document, with the integers that an index stores at the usual scale; with --query, with the
    boosts of the query's terms.

    \b
    Example:
      splade-es expand "heart attack" --model model
    """
    from splade_es import operations

    found = operations.expand(text, model, query=query)[:tokens]
    if as_json:
        for token in found:
            print_json(token)
        return
    strongest = max((token.weight for token in found), default=1.0)
    print_table(
        "",
        ["token", "weight", *([] if query else ["stored"]), "", "from"],
        [
            [
                token.token,
                f"{token.weight:.3f}",
                *([] if query else [str(token.stored)]),
                bar(token.weight / strongest),
                token.word,
            ]
            for token in found
        ],
        text=["", "from"],
    )
