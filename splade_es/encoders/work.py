"""What encoding asks of a GPU, and what the GPU can give: for `splade-es bench encode`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from splade_es.encoders.batches import BatchTokenizer
from splade_es.encoders.torch_encoder import Encoder
from splade_es.models.head import uses_kernel

_MATRIX = 8192  # rows and columns of the product that is measured
_COPIED = 2**30  # bytes


class Work(NamedTuple):
    """Operations of products, and bytes that are read and written.

    Of some texts, or as the limits of a device in a second.
    """

    flops: float
    bytes: float


def device_limits(device: torch.device) -> Work:
    """Measure what a GPU does in a second: a product in bf16, and a copy within its memory."""
    a = torch.randn(_MATRIX, _MATRIX, device=device, dtype=torch.bfloat16)
    b, out = torch.randn_like(a), torch.empty_like(a)
    source = torch.empty(_COPIED, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    product = _seconds(lambda: torch.mm(a, b, out=out))
    copy = _seconds(lambda: target.copy_(source))
    return Work(2 * _MATRIX**3 / product, 2 * _COPIED / copy)


def count_work(encoder: Encoder, texts: Sequence[str]) -> Work:
    """Count what encoding some texts on a GPU takes.

    The bytes are those of the operands and results of all operations, as if no cache kept any.
    """
    with FlopCounterMode(display=False) as counter, _Traffic() as traffic:
        list(encoder.encode(texts))
    flops, moved = counter.get_total_flops(), traffic.bytes
    if uses_kernel(encoder.device, encoder.dtype, encoder.model.pooling):
        # it is not seen: it reads hidden states and decoder, and writes the maxima
        weight = encoder.model.decoder.weight  # [V, d]
        tokens = sum(BatchTokenizer(encoder.model, encoder.max_length)(list(texts)).lengths)
        flops += 2 * tokens * weight.numel()
        moved += 2 * (tokens * weight.shape[1] + weight.numel()) + 4 * len(texts) * len(weight)
    return Work(flops, moved)


def tokenizing_seconds(encoder: Encoder, texts: Sequence[str]) -> float:
    """CPU seconds, of all threads, for the tokens of some texts."""
    tokenize = BatchTokenizer(encoder.model, encoder.max_length)
    started = time.process_time()
    tokenize(list(texts)).all_ids()
    return time.process_time() - started


def _seconds(run: Callable[[], object]) -> float:
    """The median of some runs on the current GPU."""
    found = []
    for _ in range(7):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations read and write; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            for leaf in tree_leaves((args, kwargs, out)):
                if isinstance(leaf, torch.Tensor):
                    self.bytes += leaf.numel() * leaf.element_size()
        return out
