"""Which settings of a training run go together; each rule raises TrainingError."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from splade_es.errors import TrainingError

if TYPE_CHECKING:
    from splade_es.training.config import Regularizer, TrainConfig

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


def check_rules(config: TrainConfig) -> None:
    """Check all rules."""
    _check_losses(config)
    _check_length_of_run(config)
    _check_kind(config)
    for side in (config.query, config.doc):
        _check_sparsity(side)
    _check_ramp(config)
    _check_what_needs_another(config)


def _check_losses(config: TrainConfig) -> None:
    if "infonce" in config.losses and config.batch_size < 2:
        raise TrainingError(
            f"`batch_size` must be at least 2, not {config.batch_size}",
            "infonce compares the texts of a batch.",
        )


def _check_length_of_run(config: TrainConfig) -> None:
    if config.steps is not None and config.epochs is not None:
        raise TrainingError("Give `steps` or `epochs`, not both")


def _check_kind(config: TrainConfig) -> None:
    for name, given, kinds in (
        ("query_model", config.query_model is not None, ("separate",)),
        ("freeze_documents", config.freeze_documents, ("separate", "idf")),
        ("idf", config.idf is not None, ("idf",)),
        ("learn_idf", config.learn_idf, ("idf",)),
    ):
        if given and config.kind not in kinds:
            wanted = " or ".join(kinds)
            raise TrainingError(
                f"`kind` must be {wanted} where `{name}` is given, not {config.kind}",
                f"Leave out `{name}`, or choose that kind.",
            )
    if not (config.query.trained or config.doc.trained):
        raise TrainingError(
            "Nothing is left to train", "Set `learn_idf`, or leave out `freeze_documents`."
        )


def _check_sparsity(side: SideConfig) -> None:
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


def _check_ramp(config: TrainConfig) -> None:
    if config.query.terms is None or config.doc.terms is None:
        return
    for name, steps in (("ramp", config.ramp), ("ramp_delay", config.ramp_delay)):
        if steps:
            raise TrainingError(
                f"`{name}` must be 0 where `query_terms` and `doc_terms` are given, not {steps}",
                "Both weights are adjusted from the first step on.",
            )


def _check_what_needs_another(config: TrainConfig) -> None:
    if config.patience is not None and config.dev is None:
        raise TrainingError(
            f"`patience` is {config.patience}, but there is no dev set",
            "Set `dev`, or leave out `patience`.",
        )
    regularizers = (config.query.regularizer, config.doc.regularizer)
    if config.df_index is not None and "df_flops" not in regularizers:
        raise TrainingError(
            f"`df_index` is {config.df_index}, but there is no regularizer df_flops",
            "Leave it out, or set `doc_regularizer` or `query_regularizer` to df_flops.",
        )
