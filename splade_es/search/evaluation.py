"""An index measured on a test collection, beside a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from splade_es.data.trec_beir import open_beir
from splade_es.errors import SettingsError
from splade_es.records import Query, Run
from splade_es.search.evaluate import Report, compare, evaluate, parse_measures

#: The k best documents of each query.
Ranker = Callable[[Sequence[Query], int], Run]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of an index on a test collection.

    Attributes
    ----------
    index, split : str
        What was measured, on which judgements.
    queries : int
        Judged queries.
    measures : mapping of str to float
        Measure -> mean over the queries.
    baseline : mapping of str to float
        The same of the baseline; empty without one.
    p_values : mapping of str to float
        Measure -> p-value of the difference, see `compare`; empty without a baseline.
    run : dict
        Query id -> document id -> score.
    report : Report
        The measures of each query.
    """

    index: str
    split: str
    queries: int
    measures: Mapping[str, float]
    baseline: Mapping[str, float]
    p_values: Mapping[str, float]
    run: Run
    report: Report


def evaluate_collection(
    index: str,
    collection: str,
    split: str,
    measures: str,
    k: int,
    rank: Ranker,
    baseline: Ranker | None,
) -> Evaluation:
    """Run the judged queries of a BEIR folder and measure the results.

    rank, baseline: what searches. Raises CorpusError, QueryError, and SettingsError for a k that is
    smaller than the cutoff of a measure.
    """
    wanted = parse_measures(measures)
    deepest = max(measure.params.get("cutoff", 1) for measure in wanted)
    if deepest > k:
        raise SettingsError(f"`k` is {k}, which is too few results for a cutoff of {deepest}")
    queries, qrels = open_beir(collection, split)
    run = rank(queries, k)
    report = evaluate(run, qrels, wanted)
    beside: Mapping[str, float] = {}
    p_values: Mapping[str, float] = {}
    if baseline:
        other = evaluate(baseline(queries, k), qrels, wanted)
        beside, p_values = other.means, compare(report, other)
    return Evaluation(index, split, len(queries), report.means, beside, p_values, run, report)
