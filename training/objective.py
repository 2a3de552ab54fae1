"""What a training step minimizes: the ranking losses, and what keeps the vectors sparse."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from splade_es.models.model import SpladeModel
from splade_es.training.config import TrainConfig
from splade_es.training.config_rules import SideConfig
from splade_es.training.controller import TermTarget
from splade_es.training.losses import LOSSES, Targets
from splade_es.training.regularizers import (
    anti_zero,
    df_flops,
    df_importance,
    flops,
    l1,
    noise,
    ramp,
    without_sparse,
)


class Losses(NamedTuple):
    """total: what is minimized; ranking: the part of it that ranks. Scalars."""

    total: Tensor
    ranking: Tensor


class ObjectiveState(TypedDict):
    """What changes in an objective, for a checkpoint. importance: [V], or [0] without df_flops."""

    query: list[float] | None
    doc: list[float] | None
    importance: Tensor


class SideRegularizer:
    """The regularizer of one side, whose weight may change in each step."""

    def __init__(self, side: SideConfig, ramp: int, ramp_delay: int, device: torch.device) -> None:
        self.side = side
        self._ramp, self._ramp_delay = ramp, ramp_delay
        self._target = None
        if side.terms is not None:
            self._target = TermTarget(side.terms, side.lambda_, device)

    def weight(self, step: int) -> float | Tensor:
        """The weight in a step; a scalar on the device where it is controlled."""
        if self._target is not None:
            return self._target.weight
        return float(self.side.lambda_) * ramp(step, self._ramp, self._ramp_delay)

    def penalty(self, rows: Tensor, importance: Tensor) -> Tensor:
        """A scalar, not weighted yet. rows: [N, V]; importance: [V], for df_flops."""
        if self.side.regularizer == "df_flops":
            return df_flops(rows, importance)
        return flops(rows) if self.side.regularizer == "flops" else l1(rows)

    @property
    def controlled(self) -> bool:
        """Whether the weight is adjusted to reach a number of active terms."""
        return self._target is not None

    def update(self, terms: Tensor) -> None:
        """Adjust the weight to the mean active terms of a text in the last step, a scalar."""
        if self._target is not None:
            self._target.update(terms)

    @property
    def bias_change(self) -> float | Tensor:
        """What to add to the bias of the decoder after a step."""
        return 0.0 if self._target is None else self._target.bias_change

    def state(self) -> list[float] | None:
        """All that changes, for a checkpoint."""
        return None if self._target is None else self._target.state()

    def restore(self, state: list[float] | None) -> None:
        """Continue from a state."""
        if self._target is not None and state is not None:
            self._target.restore(state)


class Objective:
    """The loss of a batch; `query` and `doc` are the regularizers of both sides."""

    def __init__(self, config: TrainConfig, model: SpladeModel) -> None:
        self._config = config
        device = model.decoder.weight.device
        self.query = SideRegularizer(config.query, config.ramp, config.ramp_delay, device)
        self.doc = SideRegularizer(config.doc, config.ramp, config.ramp_delay, device)
        self._vocabulary = len(model.decoder.weight)
        self._importance = torch.zeros(0)  # of each token for df_flops, [V]
        self._noise = torch.tensor(_punctuation(model), dtype=torch.long, device=device)  # [n]

    def __call__(self, queries: Tensor, documents: Tensor, targets: Targets, step: int) -> Losses:
        """The losses of a batch in an optimizer step. queries: [B, V]; documents: [N, V]."""
        config = self._config
        scores = queries @ documents.T  # [B, N]
        ranking = scores.new_zeros(())
        for name, weight in config.losses.items():
            temperature = config.kl_temperature if name == "kl" else config.temperature
            ranking = ranking + weight * LOSSES[name](scores, targets, temperature)
        total = ranking
        for regularizer, rows in ((self.query, queries), (self.doc, documents)):
            if regularizer.side.trained:
                rows = without_sparse(rows, regularizer.side.threshold)
                penalty = regularizer.penalty(rows, self._importance)
                total = total + regularizer.weight(step) * penalty
                if config.noise_lambda:
                    total = total + config.noise_lambda * noise(rows, self._noise)
        if config.anti_zero:
            total = total + config.anti_zero * anti_zero(queries, documents)
        return Losses(total, ranking)

    @property
    def needs_frequencies(self) -> bool:
        """Whether a regularizer is df_flops, which needs `set_frequencies` now and then."""
        return "df_flops" in (self.query.side.regularizer, self.doc.side.regularizer)

    def set_frequencies(self, share: Tensor) -> None:
        """Take the share of the documents of the corpus that have each token: [vocabulary]."""
        importance = df_importance(share, self._config.df_alpha, self._config.df_beta)
        self._importance = torch.zeros(self._vocabulary, device=self._noise.device)
        self._importance[: len(importance)] = importance  # the decoder may have more rows

    def state(self) -> ObjectiveState:
        """All that changes, for a checkpoint."""
        return {
            "query": self.query.state(),
            "doc": self.doc.state(),
            "importance": self._importance.cpu(),
        }

    def restore(self, state: ObjectiveState) -> None:
        """Continue from a state."""
        self.query.restore(state["query"])
        self.doc.restore(state["doc"])
        self._importance = state["importance"].to(self._noise.device)


def _punctuation(model: SpladeModel) -> list[int]:
    """Ids of tokens without a letter or digit; marks of word pieces and spaces do not count."""
    marks = ("##", "▁", "Ġ")
    ids = []
    for id, token in enumerate(model.vocabulary):
        for mark in marks:
            token = token.removeprefix(mark) or token
        if all(unicodedata.category(character)[0] in "PSZ" for character in token):
            ids.append(id)
    return ids
