"""What a training step minimises: the ranking losses and what keeps the vectors sparse."""

from __future__ import annotations

import unicodedata
from typing import Any, NamedTuple

import torch
from torch import Tensor

from splade_es.models.model import SpladeModel
from splade_es.training.config import TrainConfig
from splade_es.training.controller import TermTarget
from splade_es.training.losses import LOSSES, Targets
from splade_es.training.regularizers import (
    above,
    anti_zero,
    df_flops,
    df_importance,
    flops,
    l1,
    noise,
    ramp,
)


class Losses(NamedTuple):
    """total: what is minimised; ranking: the part of it that ranks."""

    total: Tensor
    ranking: Tensor


class Objective:
    """The loss of a batch, and the weights of its regularizers as they change.

    queries_learn, documents_learn: a side that does not learn is not regularized either.
    """

    def __init__(
        self, config: TrainConfig, model: SpladeModel, queries_learn: bool, documents_learn: bool
    ) -> None:
        self._config = config
        self._learns = {"query": queries_learn, "doc": documents_learn}
        self._targets = {
            side: TermTarget(terms, getattr(config, f"{side}_lambda"))
            for side in ("query", "doc")
            if (terms := getattr(config, f"{side}_terms")) is not None and self._learns[side]
        }
        self._size = len(model.decoder.weight)
        self._importance = torch.zeros(0)  # of each token for df_flops, [V]
        device = model.decoder.weight.device
        self._noise = torch.tensor(_punctuation(model), dtype=torch.long, device=device)

    def __call__(self, queries: Tensor, documents: Tensor, targets: Targets, step: int) -> Losses:
        """queries: [B, V]; documents: [N, V]; step: the optimizer step that is being made."""
        config = self._config
        scores = queries @ documents.T  # [B, N]
        ranking = scores.new_zeros(())
        for name, weight in config.losses.items():
            warmth = config.kl_temperature if name == "kl" else config.temperature
            ranking = ranking + weight * LOSSES[name](scores, targets, warmth)
        total = ranking
        for side, rows in (("query", queries), ("doc", documents)):
            if self._learns[side]:
                rows = above(rows, getattr(config, f"{side}_threshold"))
                total = total + self.weight(side, step) * self._penalty(side, rows)
                if config.noise_lambda:
                    total = total + config.noise_lambda * noise(rows, self._noise)
        if config.anti_zero:
            total = total + config.anti_zero * anti_zero(queries, documents)
        return Losses(total, ranking)

    def weight(self, side: str, step: int) -> float:
        """Weight of a side's regularizer in a step. side: "query" or "doc"."""
        if side in self._targets:
            return self._targets[side].weight
        rise = ramp(step, self._config.ramp, self._config.ramp_delay)
        return float(getattr(self._config, f"{side}_lambda")) * rise

    def steer(self, query_terms: float, doc_terms: float) -> None:
        """Tell the targets how many terms were active in the step that was made."""
        for side, terms in (("query", query_terms), ("doc", doc_terms)):
            if side in self._targets:
                self._targets[side].update(terms)

    @property
    def steered(self) -> bool:
        return bool(self._targets)

    def lift(self, side: str) -> float:
        """What to add to the bias of a side's decoder after a step; 0 where nothing is steered."""
        return self._targets[side].lift if side in self._targets else 0.0

    @property
    def wants_frequencies(self) -> bool:
        config = self._config
        return "df_flops" in (config.doc_regularizer, config.query_regularizer)

    def set_frequencies(self, share: Tensor) -> None:
        """share: of the corpus' documents that each token of the vocabulary stands in."""
        importance = df_importance(share, self._config.df_alpha, self._config.df_beta)
        self._importance = torch.zeros(self._size, device=self._noise.device)
        self._importance[: len(importance)] = importance  # the decoder may have more rows

    def state(self) -> dict[str, Any]:
        targets = {side: target.state() for side, target in self._targets.items()}
        return {"targets": targets, "importance": self._importance.cpu()}

    def restore(self, state: dict[str, Any]) -> None:
        for side, target in self._targets.items():
            target.restore(state["targets"][side])
        self._importance = state["importance"].to(self._noise.device)

    def _penalty(self, side: str, rows: Tensor) -> Tensor:
        kind = getattr(self._config, f"{side}_regularizer")
        if kind == "df_flops":
            return df_flops(rows, self._importance)
        return flops(rows) if kind == "flops" else l1(rows)


def _punctuation(model: SpladeModel) -> list[int]:
    """Ids of tokens without a letter or digit, word pieces and leading space marks as well."""
    marks = ("##", "▁", "Ġ")
    ids = []
    for id, token in enumerate(model.vocabulary):
        for mark in marks:
            token = token.removeprefix(mark) or token
        if all(unicodedata.category(character)[0] in "PSZ" for character in token):
            ids.append(id)
    return ids
