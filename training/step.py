"""One optimizer step, and all that changes in it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splade_es.encoders.batches import BatchTokenizer
from splade_es.encoders.devices import compute_dtype
from splade_es.errors import TrainingError
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair, QueryTable
from splade_es.training.batch_vectors import BatchVectors
from splade_es.training.batches import Batch
from splade_es.training.config import TrainConfig
from splade_es.training.distributed import World
from splade_es.training.dropout import draw_fast_masks
from splade_es.training.losses import Targets
from splade_es.training.objective import Objective, ObjectiveState


class StepResult(NamedTuple):
    """What was seen in a step, still on the device.

    means: [4], the loss, the ranking loss, and the active terms of a query and of a document, each
    the mean over the batches of the step. frequencies: [V], in how many documents each token was
    active; documents: their number.
    """

    means: Tensor
    frequencies: Tensor
    documents: int


class TokenizedBatch(NamedTuple):
    """The texts of a batch that this process encodes, as token ids, and what a loss must know.

    query_counts, document_counts: how many texts each process encodes.
    """

    queries: list[NDArray[np.int32]]
    documents: list[NDArray[np.int32]]
    query_counts: list[int]
    document_counts: list[int]
    targets: Targets


class StepperState(TypedDict):
    """All that the next step depends on, for a checkpoint."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    objective: ObjectiveState


class Stepper:
    """Model, optimizer and objective, which move on one step at a time.

    steps: of the whole run; the schedule of the learning rate depends on it.
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
                # A dense gradient, new for each few texts, would be nearly all zeros: of the
                # vocabulary a few texts have few tokens.
                embeddings = encoder.mlm.get_input_embeddings()
                if isinstance(embeddings, nn.Embedding):
                    embeddings.sparse = True
        self.objective = Objective(config, model.documents)
        self._config, self._world, self._device, self._steps = config, world, device, steps
        self._query_tokenizer = BatchTokenizer(model.documents, config.query.length)
        self._document_tokenizer = BatchTokenizer(model.documents, config.doc.length)
        # of each step whose numbers are not looked at yet: its number, and loss and gradient norm
        self._unchecked: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()
        self._dtype = compute_dtype(config.precision, device)
        self._optimizer = torch.optim.AdamW(_parameter_groups(config, model), fused=True)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._dtype == torch.float16)

    def tokenize(self, batch: Batch) -> TokenizedBatch:
        """Tokenise the texts of this process's share of a batch. A thread may do this ahead."""
        shares = self._world.shares(len(batch.queries))
        counts = [sum(batch.sizes[i] for i in share) for share in shares]
        own, before = shares[self._world.rank], sum(counts[: self._world.rank])
        documents = batch.documents[before : before + counts[self._world.rank]]
        return TokenizedBatch(
            self._query_tokenizer([batch.queries[i] for i in own]).all_ids(),
            self._document_tokenizer(documents).all_ids(),
            [len(share) for share in shares],
            counts,
            batch.targets,
        )

    def step(self, number: int, batches: Iterator[TokenizedBatch]) -> StepResult:
        """Make step `number`, from 1. Raises ArithmeticError that names what is not finite.

        On a GPU that is seen one step later: the step does not wait for the GPU.
        """
        config = self._config
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        # a function of the step alone: a checkpoint needs no random state
        torch.manual_seed((config.seed * 1_000_003 + number) * 1009 + self._world.rank)
        self._set_learning_rate(number)
        # gradients are kept and set to zero: sparse ones can be added to them
        self._optimizer.zero_grad(set_to_none=False)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        size = len(self.model.documents.decoder.weight)
        result = StepResult(
            torch.zeros(4, device=self._device), torch.zeros(size, device=self._device), 0
        )
        for _ in range(config.accumulate):
            result = self._add_batch(number, next(batches), result)
        self._world.sum_gradients(p.grad for p in parameters if p.grad is not None)
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        self._watch(number, result.means[0], norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._control_terms(result)
        return result

    def check_finite(self) -> None:
        """Look at the numbers of all steps so far. Raises ArithmeticError, see `step`."""
        while self._unchecked:
            number, numbers, copied = self._unchecked.popleft()
            if copied is not None:
                copied.synchronize()
            loss, norm = numbers.tolist()
            if not math.isfinite(loss):
                raise ArithmeticError(f"the loss is {loss} at step {number}")
            # with float16 the scaler itself leaves out a step with such a gradient
            if not (self._scaler.is_enabled() or math.isfinite(norm)):
                raise ArithmeticError(f"the gradient is {norm} at step {number}")

    def _watch(self, number: int, loss: Tensor, norm: Tensor) -> None:
        """Note the loss and the norm of the gradient of a step, and check those that are known."""
        numbers, copied = torch.stack([loss, norm]), None
        if self._device.type == "cuda":
            self.check_finite()  # of the step before
            numbers = torch.empty(2, pin_memory=True).copy_(numbers, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._unchecked.append((number, numbers, copied))
        if copied is None:
            self.check_finite()

    @property
    def lr(self) -> float:
        """The learning rate of the encoders in the last step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def state(self) -> StepperState:
        """All that the next step depends on, for a checkpoint; tensors are not copied."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "objective": self.objective.state(),
        }

    def restore(self, state: StepperState) -> None:
        """Continue from a state."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.objective.restore(state["objective"])

    def _set_learning_rate(self, number: int) -> None:
        """Linear warm-up to the peak, then linear decay to 0 after the last step."""
        warmup = self._config.warmup
        rise = number / max(1.0, warmup * self._steps)
        fall = (self._steps - number + 1) / max(1.0, (1 - warmup) * self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * min(rise, fall, 1.0)

    def _add_batch(self, number: int, batch: TokenizedBatch, result: StepResult) -> StepResult:
        """Compute the gradient of one batch, and add what was seen to the result of the step."""
        config, model = self._config, self.model
        queries = self._encode(model.queries, batch.queries, batch.query_counts)
        documents = self._encode(model.documents, batch.documents, batch.document_counts)
        targets = batch.targets
        targets = Targets(
            targets.candidates.to(self._device),
            None if targets.teacher is None else targets.teacher.to(self._device),
            targets.excluded.to(self._device),
        )
        losses = self.objective(queries.rows, documents.rows, targets, number)
        self._scaler.scale(losses.total / config.accumulate).backward()
        queries.backward()
        documents.backward()
        with torch.no_grad():
            active = documents.rows > 0  # [N, V]
            terms = [(queries.rows > 0).sum(dim=1).float().mean(), active.sum(dim=1).float().mean()]
            means = torch.stack([losses.total, losses.ranking, *terms]) / config.accumulate  # [4]
            return StepResult(
                result.means + means,
                result.frequencies + active.sum(dim=0),
                result.documents + len(active),
            )

    def _encode(
        self, side: nn.Module, ids: list[NDArray[np.int32]], counts: list[int]
    ) -> BatchVectors:
        return BatchVectors(
            side,
            self.model.documents,
            ids,
            self._dtype,
            self._config.mini_batch_tokens,
            self._world,
            counts,
        )

    def _control_terms(self, result: StepResult) -> None:
        """Adjust the regularizers, and the biases of the decoders, to the active terms."""
        query, doc = self.objective.query, self.objective.doc
        if not (query.controlled or doc.controlled):
            return
        query_terms, document_terms = result.means[2:]
        query.update(query_terms)
        doc.update(document_terms)
        with torch.no_grad():
            for regularizer, side in ((query, self.model.queries), (doc, self.model.documents)):
                # a model that came without a bias is saved without one
                if isinstance(side, SpladeModel) and side.decoder.bias.requires_grad:
                    side.decoder.bias.add_(regularizer.bias_change)


def _parameter_groups(config: TrainConfig, model: EncoderPair) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay; those of the encoders come first."""
    # Dicts, for their order, which the state of the optimizer relies on. In most models the decoder
    # is tied to the embeddings: then both are the same parameter.
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
        if trained := [p for p in parameters if p.requires_grad]:
            groups.append({"params": trained, "lr": lr, "peak": lr, "weight_decay": decay})
    if not groups:
        raise TrainingError("Nothing is left to train", "Set `embedding_lr` above 0.")
    return groups
