"""Signs that a run goes wrong, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from splade_es.training.step import StepResult

# Texts are dense with more than this share of the vocabulary, silent with fewer terms than this.
_DENSE = 0.5
_SILENT = 1.0
# With fewer documents than this, a token of all of them may be chance.
_ENOUGH = 64


def find_problems(
    query_terms: float,
    document_terms: float,
    results: Sequence[StepResult],
    vocabulary: list[str],
) -> list[str]:
    """What is wrong with the last steps, in one line each.

    query_terms, document_terms: mean active terms of a text; results: of these steps.
    """
    problems = []
    for texts, name, terms in (
        ("queries", "query", query_terms),
        ("documents", "doc", document_terms),
    ):
        if terms < _SILENT:
            problems.append(
                f"{texts} have almost no active terms ({terms:.1f}): lower `{name}_lambda`, or "
                f"set `{name}_terms`, or set `anti_zero` to 1"
            )
        elif terms > _DENSE * len(vocabulary):
            problems.append(
                f"{texts} are dense ({terms:.0f} of {len(vocabulary):,} terms active): raise "
                f"`{name}_lambda` without `ramp`, or set `{name}_terms`"
            )
    frequencies = torch.stack([result.frequencies for result in results]).sum(dim=0)  # [V]
    documents = sum(result.documents for result in results)
    common = int(frequencies.max())
    if documents >= _ENOUGH and common == documents and not problems:
        everywhere = torch.nonzero(frequencies == common).flatten().tolist()
        named = ", ".join(repr(vocabulary[id]) for id in everywhere[:5])
        problems.append(
            f"{len(everywhere)} terms are active in every document ({named}): each query with one "
            "of them reads the whole index; raise `doc_lambda`, or set `doc_regularizer` to "
            "df_flops"
        )
    return problems
