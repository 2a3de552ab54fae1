"""A run held against relevance judgements, by the measures of ir-measures (https://ir-measur.es)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from splade_es.errors import QueryError
from splade_es.limits import MAX_K
from splade_es.records import Qrels, Run

if TYPE_CHECKING:  # ir_measures takes a tenth of a second to import, so it waits for its first use
    from ir_measures import Measure


@dataclass(frozen=True, slots=True)
class Report:
    """means: measure -> value over all judged queries; per_query: query id -> measure -> value."""

    means: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]


def parse_measures(text: str) -> list[Measure]:
    """Measures from their names, by white space or commas: "nDCG@10 RR@10 AP(rel=2)".

    Raises QueryError that names every one that is unknown or cannot be computed here.
    """
    import ir_measures

    measures, bad = [], []
    for name in re.findall(r"(?:\([^)]*\)|[^\s,(])+", text):
        try:
            measure = ir_measures.parse_measure(name)
            # trec_eval, in C, ends the whole process on a cutoff of 0 or one that overflows.
            sane = 1 <= measure.params.get("cutoff", 1) <= MAX_K
            known = sane and ir_measures.DefaultPipeline.supports(measure)  # type: ignore[no-untyped-call]
        except (AssertionError, KeyError, NameError, TypeError, ValueError):
            known = False
        if not known:
            bad.append(f'"{name}"')
        elif measure not in measures:
            measures.append(measure)
    if bad or not measures:
        raise QueryError(
            f"unknown measure: {', '.join(bad)}" if bad else "no measure is named",
            f"Some there are: nDCG@10 RR@10 R@1000 P@5 AP; a cutoff is from 1 to {MAX_K:,}.",
        )
    return measures


def evaluate(run: Run, qrels: Qrels, measures: Sequence[Measure]) -> Report:
    """Compute `measures` for every judged query, and their means.

    A judged query without results counts, with the measure's lowest value; one that is not judged
    does not. Equal scores rank by document id, as `write_run` writes them.
    Raises QueryError if none of the queries of the run is judged.
    """
    import ir_measures

    if not run.keys() & qrels.keys() and (run or not qrels):
        raise QueryError(
            f"none of the {len(run)} queries of the run is among the {len(qrels)} judged ones",
            "Take the run and the judgements from the same collection and split.",
        )
    # The providers behind ir-measures break ties in opposite ways, so they are given no ties.
    ranks = {}
    for query, scores in run.items():
        ranked = sorted(scores, key=lambda document: (-scores[document], document))
        ranks[query] = {document: -float(rank) for rank, document in enumerate(ranked)}
    result = ir_measures.calc(measures, qrels, ranks)
    per_query = {query: {str(measure): 0.0 for measure in measures} for query in qrels}
    for metric in result.per_query:
        per_query[metric.query_id][str(metric.measure)] = float(metric.value)
    aggregated = cast("dict[Measure, float]", result.aggregated)
    means = {str(measure): float(aggregated[measure]) for measure in measures}
    return Report(means, per_query)


def compare(a: Report, b: Report) -> dict[str, float]:
    """Test whether two runs differ by more than chance: a p-value for each measure.

    The paired randomisation test, two-sided, on the mean of the differences of the queries: 9,999
    random flips of their signs, always the same ones, or all flips where there are fewer.

    Parameters
    ----------
    a, b : Report
        Of two runs, about the same queries and with the same measures.

    Returns
    -------
    dict of str to float
        For each measure the p-value, from 0.0001 to 1.

    Raises
    ------
    QueryError
        The reports have different queries or measures.

    References
    ----------
    Smucker, Allan and Carterette: A comparison of statistical significance tests for information
    retrieval evaluation. CIKM 2007.

    Examples
    --------
    >>> a = Report({"AP": 0.5}, {"q1": {"AP": 0.4}, "q2": {"AP": 0.6}})
    >>> b = Report({"AP": 0.2}, {"q1": {"AP": 0.1}, "q2": {"AP": 0.3}})
    >>> compare(a, b)  # one of four ways to flip the signs is as good as these, and one as bad
    {'AP': 0.5}
    """
    import numpy as np
    from numpy.typing import NDArray
    from scipy.stats import permutation_test

    if a.per_query.keys() != b.per_query.keys() or a.means.keys() != b.means.keys():
        raise QueryError(
            "the two reports have different queries or measures",
            "Evaluate both runs with the same judgements and measures.",
        )
    differences = np.array(  # [queries, measures]
        [[a.per_query[q][m] - b.per_query[q][m] for m in a.means] for q in a.per_query]
    )

    if len(differences) < 2:  # which scipy refuses: both signs of one difference are as large
        return dict.fromkeys(a.means, 1.0)

    def size(differences: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        """How far the sum is from 0; sums of the same numbers in another order are equal."""
        sizes: NDArray[np.float64] = np.abs(differences.sum(axis=axis)).round(9)
        return sizes

    result = permutation_test(
        (differences,), size, permutation_type="samples", alternative="greater", vectorized=True,
        n_resamples=9_999, batch=100, axis=0, rng=np.random.default_rng(0),
    )  # fmt: skip
    return dict(zip(a.means, result.pvalue.tolist(), strict=True))
