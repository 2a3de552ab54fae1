"""splade-es evaluate"""

from __future__ import annotations

import click

from splade_es.cli.options import json_option, open_engine, query_options
from splade_es.cli.output import print_json, print_table


@click.command()
@click.argument("beir_dir")
@query_options
@click.option("--split", default="test", show_default=True, help="Judgements: qrels/SPLIT.tsv.")
@click.option(
    "--measures",
    default="nDCG@10 RR@10 R@1000 AP",
    show_default=True,
    help="Measures by their ir-measures names.",
)
@click.option("--baseline", type=click.Choice(["bm25"]), help="Measure this beside it.")
@click.option("-k", "depth", default=1000, show_default=True, help="Results for each query.")
@click.option("--run", "run_file", help="Write the results here, as a TREC run.")
@json_option
def evaluate(
    beir_dir: str,
    index_name: str,
    url: str | None,
    model: str | None,
    query_top_k: int | None,
    query_threshold: float,
    split: str,
    measures: str,
    baseline: str | None,
    depth: int,
    run_file: str | None,
    as_json: bool,
) -> None:
    """Run the judged queries of BEIR_DIR against an index and measure the results.

    \b
    Example:
      splade-es evaluate scifact --index scifact --measures "nDCG@10 R@100" --baseline bm25
    """
    from splade_es.data.trec_beir import open_beir, write_run
    from splade_es.search.evaluate import compare, parse_measures
    from splade_es.search.evaluate import evaluate as measure
    from splade_es.search.searcher import Searcher

    wanted = parse_measures(measures)
    deepest = max(measure.params.get("cutoff", 1) for measure in wanted)
    if deepest > depth:
        raise click.UsageError(f"-k {depth} leaves too few results for a cutoff of {deepest}")
    queries, qrels = open_beir(beir_dir, split)
    with open_engine(url) as engine:
        searcher = Searcher(engine, index_name, model, top_k=query_top_k, threshold=query_threshold)
        run = searcher.run(queries, depth)
        report = measure(run, qrels, wanted)
        if baseline:
            found = engine.match(index_name, [query.text for query in queries], depth)
            bm25_run = {
                query.id: {hit.id: hit.score for hit in hits}
                for query, hits in zip(queries, found, strict=True)
            }
            bm25 = measure(bm25_run, qrels, wanted)
            p_values = compare(report, bm25)
    if as_json:
        record = {"index": index_name, "split": split, "queries": len(queries)}
        record["measures"] = dict(report.means)
        if baseline:
            record["bm25"] = dict(bm25.means)
            record["p_values"] = p_values
        print_json(record)
    else:
        columns = ["measure", "SPLADE", *(["BM25", "p"] if baseline else [])]
        rows = [
            [name, f"{mean:.4f}"]
            + ([f"{bm25.means[name]:.4f}", f"{p_values[name]:.4f}"] if baseline else [])
            for name, mean in report.means.items()
        ]
        print_table(f"{index_name}, {split}: {len(queries)} queries", columns, rows)
    if run_file:  # last, so that an unwritable file does not cost the measures
        write_run(run_file, run)
