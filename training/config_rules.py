"""Which settings of a training run go together. Each `check_…` raises TrainingError."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from splade_es.errors import TrainingError

Kind = Literal["splade", "separate", "doc", "idf", "lexical"]
Regularizer = Literal["flops", "l1", "df_flops"]

LOSS_NAMES = ("infonce", "margin_mse", "kl")
#: Losses that compare with the scores of a teacher.
DISTILLING = frozenset({"margin_mse", "kl"})


@dataclass(frozen=True)
class SideConfig:
    """The settings of one side of a model: of queries, or of documents.

    name: what these settings begin with in `TrainConfig`; texts: what is encoded, for messages;
    trained: whether this side has weights to train; lambda_: the weight of the regularizer.
    """

    name: Literal["query", "doc"]
    texts: Literal["queries", "documents"]
    trained: bool
    length: int
    terms: float | None
    regularizer: Regularizer
    lambda_: float
    threshold: int


def parse_loss(text: str) -> dict[str, float]:
    """The weight of each ranking loss in a sum like "kl=1,margin_mse=0.05"."""
    weights = {}
    for part in text.split(","):
        name, given, number = part.strip().partition("=")
        try:
            weights[name] = float(number) if given else 1.0
        except ValueError:
            weights[name] = math.nan
        if name not in LOSS_NAMES or not 0 < weights[name] < math.inf:
            raise TrainingError(
                f"`loss` must be a sum like kl=1,margin_mse=0.05 of {', '.join(LOSS_NAMES)}, "
                f"not {text}"
            )
    return weights


def check_losses(losses: Mapping[str, float], batch_size: int) -> None:
    """InfoNCE needs other texts in the batch."""
    if "infonce" in losses and batch_size < 2:
        raise TrainingError(
            f"`batch_size` must be at least 2, not {batch_size}",
            "infonce compares the texts of a batch.",
        )


def check_duration(steps: int | None, epochs: float | None) -> None:
    """A run has one length."""
    if steps is not None and epochs is not None:
        raise TrainingError("Give `steps` or `epochs`, not both")


def check_kind(
    kind: Kind, *, query_model: bool, freeze_documents: bool, idf: bool, learn_idf: bool
) -> None:
    """Some settings are for some kinds only. The arguments say which of them are given."""
    for name, given, kinds in (
        ("query_model", query_model, ("separate",)),
        ("freeze_documents", freeze_documents, ("separate", "idf")),
        ("idf", idf, ("idf",)),
        ("learn_idf", learn_idf, ("idf",)),
    ):
        if given and kind not in kinds:
            wanted = " or ".join(kinds)
            raise TrainingError(
                f"`kind` must be {wanted} where `{name}` is given, not {kind}",
                f"Leave out `{name}`, or choose that kind.",
            )
    if kind == "idf" and freeze_documents and not learn_idf:
        raise TrainingError(
            "Nothing is left to train", "Set `learn_idf`, or leave out `freeze_documents`."
        )


def check_terms(side: SideConfig) -> None:
    """A number of active terms is reached by adjusting the weight of a regularizer."""
    if side.terms is None:
        return
    name = f"{side.name}_terms"
    if not side.trained:
        raise TrainingError(f"`{name}` is given, but {side.texts} are not trained", "Leave it out.")
    if side.lambda_ == 0:
        raise TrainingError(
            f"`{side.name}_lambda` must be above 0 where `{name}` is given, not {side.lambda_}",
            "The weight is adjusted by factors.",
        )
    if side.threshold >= side.terms:
        raise TrainingError(
            f"`{side.name}_threshold` must be below `{name}`, not {side.threshold}",
            f"There is no regularizer for {side.texts} with fewer terms than the threshold.",
        )


def check_ramp(query: SideConfig, doc: SideConfig, ramp: int, ramp_delay: int) -> None:
    """A ramp has no effect on weights that are adjusted."""
    if query.terms is None or doc.terms is None:
        return
    for name, steps in (("ramp", ramp), ("ramp_delay", ramp_delay)):
        if steps:
            raise TrainingError(
                f"`{name}` must be 0 where `query_terms` and `doc_terms` are given, not {steps}",
                "Both weights are adjusted from the first step on.",
            )


def check_patience(patience: int | None, dev: object | None) -> None:
    """To stop early, a run must be evaluated."""
    if patience is not None and dev is None:
        raise TrainingError(
            f"`patience` is {patience}, but there is no dev set",
            "Set `dev`, or leave out `patience`.",
        )


def check_df_index(df_index: str | None, query: SideConfig, doc: SideConfig) -> None:
    """Only the regularizer df_flops reads an index."""
    if df_index is not None and "df_flops" not in (query.regularizer, doc.regularizer):
        raise TrainingError(
            f"`df_index` is {df_index}, but there is no regularizer df_flops",
            "Leave it out, or set `doc_regularizer` or `query_regularizer` to df_flops.",
        )
