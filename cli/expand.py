"""splade-es expand"""

from __future__ import annotations

import click

from splade_es.cli.options import json_option
from splade_es.cli.output import bar, print_json, print_table


@click.command()
@click.argument("text")
@click.option("--model", required=True, help="SPLADE model: a directory or a hub name.")
@click.option("--query", is_flag=True, help="As a query, not as a document of an index.")
@click.option(
    "-k", type=click.IntRange(1), default=30, show_default=True,
    help="Tokens to show, the strongest first.",
)  # fmt: skip
@json_option
def expand(text: str, model: str, query: bool, k: int, as_json: bool) -> None:
    """Show which tokens stand for TEXT, with their weights and the words that caused them.

    As a document, with the integers that an index stores at the usual scale; with --query, with the
    boosts of the query's terms.

    \b
    Example:
      splade-es expand "heart attack" --model model
    """
    from splade_es.encoders.load import load_text_encoder
    from splade_es.inspection.expand import expand as tokens_of
    from splade_es.quantize import Quantizer

    if query:
        tokens = tokens_of(load_text_encoder(model), text, None)[:k]
    else:
        from splade_es.encoders.torch_encoder import Encoder

        tokens = tokens_of(Encoder.load(model), text, Quantizer())[:k]
    if as_json:
        for token in tokens:
            print_json(token._asdict())
        return
    strongest = max((token.weight for token in tokens), default=1.0)
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
            for token in tokens
        ],
        text=["", "from"],
    )
