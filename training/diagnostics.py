"""Signs that a run goes wrong, each with its cure."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from splade_es.training.step import Outcome

# More than this share of the vocabulary in a text is dense, fewer terms than this is silence.
_DENSE = 0.5
_SILENT = 1.0
# A token counts as one of every document only if so many were seen.
_ENOUGH = 64


def alarms(
    query_terms: float, doc_terms: float, window: Sequence[Outcome], vocabulary: list[str]
) -> list[str]:
    """What is wrong with the last steps, in a line each.

    query_terms, doc_terms: mean active terms of a text; window: what these steps saw.
    """
    found = []
    for side, option, terms in (
        ("queries", "query", query_terms), ("documents", "doc", doc_terms),
    ):  # fmt: skip
        if terms < _SILENT:
            found.append(
                f"{side} have almost no active terms ({terms:.1f}): lower --{option}-lambda, or "
                f"set --{option}-terms, or --anti-zero 1"
            )
        elif terms > _DENSE * len(vocabulary):
            found.append(
                f"{side} are dense ({terms:.0f} of {len(vocabulary):,} terms active): raise "
                f"--{option}-lambda without --ramp, or set --{option}-terms"
            )
    frequencies = torch.stack([outcome.frequencies for outcome in window]).sum(dim=0)  # [V]
    documents = sum(outcome.documents for outcome in window)
    common = int(frequencies.max())
    if documents >= _ENOUGH and common == documents and not found:
        everywhere = torch.nonzero(frequencies == common).flatten().tolist()
        named = ", ".join(repr(vocabulary[id]) for id in everywhere[:5])
        found.append(
            f"{len(everywhere)} terms are active in every document ({named}): each query with one "
            "of them reads the whole index; raise --doc-lambda, or use --doc-regularizer df_flops"
        )
    return found
