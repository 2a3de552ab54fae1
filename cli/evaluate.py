"""The command `splade-es evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from splade_es.cli.old_names import old_option
from splade_es.cli.options import json_option, k_option, mode_option, open_engine, query_options
from splade_es.cli.output import print_json, print_table

if TYPE_CHECKING:
    from splade_es.search.modes import Mode

_TITLES = {"splade": "SPLADE", "bm25": "BM25", "hybrid": "hybrid"}


@click.command()
@click.argument("collection", metavar="BEIR_DIR")
@query_options
@mode_option
@click.option("--split", default="test", show_default=True, help="Judgements: qrels/SPLIT.tsv.")
@click.option(
    "--measures",
    default="nDCG@10 RR@10 R@1000 AP",
    show_default=True,
    help="Measures by their ir-measures names.",
)
@click.option(
    "--baseline",
    type=click.Choice(["bm25"]),
    help="Measure BM25 on the same queries as well, with a p-value of each difference.",
)
@k_option(1000)
@click.option("--output", help="File for the results, as a TREC run.")
@old_option("--run", stands_for="output")
@json_option
def evaluate(
    collection: str,
    index_name: str,
    url: str | None,
    mode: Mode,
    baseline: Literal["bm25"] | None,
    output: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run the judged queries of BEIR_DIR against an index and measure the results.

    \b
    Example:
      splade-es evaluate scifact --index scifact --measures "nDCG@10 R@100" --baseline bm25
    """
    from splade_es.data.files import check_not_input
    from splade_es.data.trec_beir import beir_files, write_run

    if output:
        check_not_input("output", output, *beir_files(collection, settings["split"]))
    with open_engine(url) as engine:
        found = engine.index(index_name).evaluate(
            collection, mode=mode, baseline=baseline, **settings
        )
    if as_json:
        record = {"index": found.index, "split": found.split, "queries": found.queries}
        record |= {"mode": mode, "measures": found.measures}
        if baseline:
            record |= {baseline: found.baseline, "p_values": found.p_values}
        print_json(record)
    else:
        columns = ["measure", _TITLES[mode], *(["BM25", "p"] if baseline else [])]
        rows = [
            [name, f"{mean:.4f}"]
            + ([f"{found.baseline[name]:.4f}", f"{found.p_values[name]:.4f}"] if baseline else [])
            for name, mean in found.measures.items()
        ]
        print_table(f"{found.index}, {found.split}: {found.queries} queries", columns, rows)
    if output:  # last, so that a file that cannot be written does not cost the measures
        write_run(output, found.run)
