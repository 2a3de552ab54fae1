"""Measures: checked against numbers worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from splade_es.errors import QueryError
from splade_es.search.evaluate import Report, compare, evaluate, parse_measures

QRELS = {"1": {"a": 3, "b": 1, "c": 0}, "2": {"a": 1, "d": 1}}


def test_measures_agree_with_hand_computed_values() -> None:
    run = {"1": {"c": 9.0, "b": 8.0, "x": 7.0, "a": 6.0}, "2": {"d": 1.0, "x": 0.5}}
    report = evaluate(run, QRELS, parse_measures("nDCG@10, RR@10 R@1 P(rel=2)@4 AP"))
    # Linear gains, discount log2(rank + 1), as in trec_eval: grades 0, 1, -, 3 against 3, 1.
    first = (1 / math.log2(3) + 3 / math.log2(5)) / (3 + 1 / math.log2(3))
    second = 1 / (1 + 1 / math.log2(3))
    assert report.per_query["1"] == pytest.approx(
        {"nDCG@10": first, "RR@10": 1 / 2, "R@1": 0, "P(rel=2)@4": 1 / 4, "AP": (1 / 2 + 2 / 4) / 2}
    )
    assert report.per_query["2"] == pytest.approx(
        {"nDCG@10": second, "RR@10": 1, "R@1": 1 / 2, "P(rel=2)@4": 0, "AP": 1 / 2}
    )
    assert list(report.means) == ["nDCG@10", "RR@10", "R@1", "P(rel=2)@4", "AP"]
    assert report.means["nDCG@10"] == pytest.approx((first + second) / 2)
    assert report.means["AP"] == pytest.approx(1 / 2)


def test_a_judged_query_without_results_counts_and_an_unjudged_one_does_not() -> None:
    measures = parse_measures("nDCG@10 RR@10 R@1000 AP")
    report = evaluate({"1": {"a": 2.0, "b": 1.0}, "unjudged": {"a": 1.0}}, QRELS, measures)
    assert report.per_query.keys() == {"1", "2"}
    assert set(report.per_query["2"].values()) == {0.0}
    assert report.means == {"nDCG@10": 0.5, "RR@10": 0.5, "R@1000": 0.5, "AP": 0.5}
    assert set(evaluate({}, QRELS, measures).means.values()) == {0.0}


@pytest.mark.parametrize("scores", [{"a": 1.0, "b": 1.0}, {"b": 1.0, "a": 1.0}])
def test_equal_scores_rank_by_document_id_for_every_measure(scores: dict[str, float]) -> None:
    # Left alone, trec_eval puts b before a, and the provider of RR@10 a before b.
    names = "nDCG@10 RR RR@10 AP"
    first = evaluate({"q": scores}, {"q": {"a": 1}}, parse_measures(names))
    second = evaluate({"q": scores}, {"q": {"b": 1}}, parse_measures(names))
    assert set(first.means.values()) == {1.0}
    assert second.means == pytest.approx(
        {"nDCG@10": 1 / math.log2(3), "RR": 0.5, "RR@10": 0.5, "AP": 0.5}
    )


def test_a_run_of_other_queries_is_refused() -> None:
    with pytest.raises(QueryError) as caught:
        evaluate({"7": {"a": 1.0}}, QRELS, parse_measures("AP"))
    assert str(caught.value) == (
        "none of the 1 queries of the run is among the 2 judged ones. "
        "Take the run and the judgements from the same collection and split."
    )


def test_all_bad_measures_are_named_at_once() -> None:
    with pytest.raises(QueryError) as caught:
        parse_measures("AP nDCG@0 foo@3 R nDCG@x P@2.5 nDCG@99999999999 RR(x=1)")
    hint = "Some there are: nDCG@10 RR@10 R@1000 P@5 AP; a cutoff is from 1 to 10,000."
    assert str(caught.value) == (
        'unknown measure: "nDCG@0", "foo@3", "R", "nDCG@x", "P@2.5", "nDCG@99999999999", '
        f'"RR(x=1)". {hint}'
    )
    with pytest.raises(QueryError) as caught:
        parse_measures(" , ")
    assert str(caught.value) == f"no measure is named. {hint}"


def test_a_measure_named_twice_is_computed_once() -> None:
    measures = parse_measures("MRR@10,RR@10 nDCG(dcg='log2', cutoff=5) AP")
    assert [str(measure) for measure in measures] == ["RR@10", "nDCG@5", "AP"]


def report(values: list[float]) -> Report:
    per_query = {str(n): {"AP": value, "RR": 0.5} for n, value in enumerate(values)}
    return Report({"AP": sum(values) / len(values), "RR": 0.5}, per_query)


def test_p_values_of_the_randomisation_test() -> None:
    base = [0.1 * (n % 10) for n in range(50)]
    better = [value + 0.05 for value in base]
    mixed = [value + (0.05 if n % 2 else -0.05) for n, value in enumerate(base)]
    assert compare(report(better), report(base)) == {"AP": pytest.approx(1e-4, rel=0.01), "RR": 1}
    assert compare(report(mixed), report(base)) == {"AP": 1, "RR": 1}
    # Four queries, all better: 2 of the 16 ways to flip the signs are as extreme.
    assert compare(report([1.0] * 4), report([0.0] * 4))["AP"] == pytest.approx(1 / 8, abs=0.01)
    assert compare(report([1.0]), report([0.0])) == {"AP": 1, "RR": 1}


def test_reports_of_other_queries_are_not_compared() -> None:
    with pytest.raises(QueryError) as caught:
        compare(report([1.0]), report([1.0, 0.0]))
    assert str(caught.value) == (
        "the two reports have different queries or measures. "
        "Evaluate both runs with the same judgements and measures."
    )


def test_importing_the_module_does_not_load_ir_measures() -> None:
    code = "import sys, splade_es.search.evaluate; sys.exit('ir_measures' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
