"""One optimizer step, and all that changes in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from splade_es.encoders.torch_encoder import DTYPES, fast_dtype
from splade_es.errors import TrainingError
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair, QueryTable
from splade_es.training.batches import Batch
from splade_es.training.config import TrainConfig
from splade_es.training.distributed import World
from splade_es.training.dropout import draw_fast_masks
from splade_es.training.encoding import Encoding
from splade_es.training.losses import Targets
from splade_es.training.objective import Objective


class Outcome(NamedTuple):
    """What a step saw, still on the device. sums: of loss, ranking loss, active terms of a query
    and of a document, each the mean of its batches; frequencies: [V], documents with each token."""

    sums: Tensor
    frequencies: Tensor
    documents: int


class Stepper:
    """Model, optimizer and objective, moved on one step at a time.

    steps: of the whole run, which the learning rate is shaped by.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: EncoderPair,
        world: World,
        device: torch.device,
        steps: int,
    ) -> None:
        self.model = model.to(device).train()
        if config.freeze_documents:
            model.documents.eval()
        if device.type == "cpu":
            for encoder in model.encoders:
                draw_fast_masks(encoder.mlm)
                # a dense gradient, for each few texts anew, would be all zeros but their tokens
                embeddings = encoder.mlm.get_input_embeddings()
                if isinstance(embeddings, nn.Embedding):
                    embeddings.sparse = True
        self.objective = Objective(
            config, model.documents, _learns(model.queries), _learns(model.documents)
        )
        self._config, self._world, self._device, self._steps = config, world, device, steps
        self._dtype = fast_dtype(device) if config.precision == "auto" else DTYPES[config.precision]
        self._optimizer = torch.optim.AdamW(_groups(config, model), fused=True)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._dtype == torch.float16)

    def step(self, number: int, stream: Iterator[Batch]) -> Outcome:
        """Make step `number`. Raises ArithmeticError, saying what is no finite number."""
        config = self._config
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        # a function of the step alone: nothing random need be kept to resume
        torch.manual_seed((config.seed * 1_000_003 + number) * 1009 + self._world.rank)
        rise = number / max(1.0, config.warmup * self._steps)
        fall = (self._steps - number + 1) / max(1.0, (1 - config.warmup) * self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * min(rise, fall, 1.0)

        # kept, not made anew: sparse gradients are added to them
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.zero_()
        size = len(self.model.documents.decoder.weight)
        outcome = Outcome(
            torch.zeros(4, device=self._device), torch.zeros(size, device=self._device), 0
        )
        for _ in range(config.accumulate):
            outcome = self._batch(number, next(stream), outcome)
        self._world.sum_gradients(p.grad for p in parameters if p.grad is not None)
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        if not (self._scaler.is_enabled() or torch.isfinite(norm)):  # it skips such a step itself
            raise ArithmeticError(f"the gradient is {norm.item()} at step {number}")
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self.objective.steered:
            self.objective.steer(*outcome.sums[2:].tolist())
            with torch.no_grad():
                for name, side in (("query", self.model.queries), ("doc", self.model.documents)):
                    # a model without a bias is saved without one
                    if isinstance(side, SpladeModel) and side.decoder.bias.requires_grad:
                        side.decoder.bias.add_(self.objective.lift(name))
        return outcome

    @property
    def lr(self) -> float:
        """Learning rate of the last step, of the encoder."""
        return float(self._optimizer.param_groups[0]["lr"])

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "objective": self.objective.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.objective.restore(state["objective"])

    def _batch(self, number: int, batch: Batch, outcome: Outcome) -> Outcome:
        """Gradients of one batch, and `outcome` with what was seen added."""
        config, model, world = self._config, self.model, self._world
        shares = world.shares(len(batch.queries))
        counts = [sum(batch.sizes[i] for i in share) for share in shares]
        own, before = shares[world.rank], sum(counts[: world.rank])
        queries = self._encode(
            model.queries,
            [batch.queries[i] for i in own],
            config.query_length,
            [len(share) for share in shares],
        )
        documents = self._encode(
            model.documents,
            batch.documents[before : before + counts[world.rank]],
            config.doc_length,
            counts,
        )
        targets = batch.targets
        targets = Targets(
            targets.own.to(self._device),
            None if targets.teacher is None else targets.teacher.to(self._device),
            targets.banned.to(self._device),
        )
        losses = self.objective(queries.rows, documents.rows, targets, number)
        if not torch.isfinite(losses.total):
            raise ArithmeticError(f"the loss is {losses.total.item()} at step {number}")
        self._scaler.scale(losses.total / config.accumulate).backward()
        queries.backward()
        documents.backward()
        with torch.no_grad():
            active = documents.rows > 0  # [N, V]
            terms = [(queries.rows > 0).sum(dim=1).float().mean(), active.sum(dim=1).float().mean()]
            sums = torch.stack([losses.total, losses.ranking, *terms]) / config.accumulate
            return Outcome(
                outcome.sums + sums,
                outcome.frequencies + active.sum(dim=0),
                outcome.documents + len(active),
            )

    def _encode(self, side: nn.Module, texts: list[str], length: int, sizes: list[int]) -> Encoding:
        return Encoding(
            side,
            self.model.documents,
            texts,
            length,
            self._dtype,
            self._config.mini_batch_tokens,
            self._world,
            sizes,
        )


def _learns(side: nn.Module) -> bool:
    return any(p.requires_grad for p in side.parameters())


def _groups(config: TrainConfig, model: EncoderPair) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay, those of the encoders first."""
    # dicts for their order, which the optimizer's state goes by
    # the decoder is tied to the embeddings in most models, and then it is the same parameter
    embeddings = dict.fromkeys(
        p for encoder in model.encoders for p in encoder.mlm.get_input_embeddings().parameters()
    )
    table = isinstance(model.queries, QueryTable)
    tables = dict.fromkeys(model.queries.parameters() if table else ())
    rest = [p for p in model.parameters() if p not in tables and p not in embeddings]
    embedding_lr = config.lr if config.embedding_lr is None else config.embedding_lr
    parts = [
        (config.lr, config.weight_decay, [p for p in rest if p.dim() > 1]),
        (config.lr, 0.0, [p for p in rest if p.dim() <= 1]),
        (embedding_lr, config.weight_decay, list(embeddings)),
        (config.idf_lr, 0.0, list(tables)),
    ]
    groups = []
    for lr, decay, parameters in parts:
        if learning := [p for p in parameters if p.requires_grad]:
            groups.append({"params": learning, "lr": lr, "peak": lr, "weight_decay": decay})
    if not groups:
        raise TrainingError("Nothing is left to train", "Freeze less.")
    return groups
