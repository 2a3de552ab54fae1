"""Several processes, one batch.

Each process encodes its share of the batch's texts; then all hold the vectors of all, and each
computes the loss of the whole batch. Its gradient reaches the own share only, so the sum over the
processes is the gradient of one process with the whole batch: in-batch negatives, FLOPS and
whatever else looks at a batch as a whole are the same on one GPU or sixteen.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


class World:
    """The processes of this run. rank: of this one; size: how many there are."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    def shares(self, count: int) -> list[range]:
        """The part of `count` items that each process has; they differ by one item at most."""
        return [
            range(count * rank // self.size, count * (rank + 1) // self.size)
            for rank in range(self.size)
        ]

    def gather(self, rows: Tensor, sizes: list[int]) -> Tensor:
        """The rows of all processes, in order of rank, without a gradient. sizes: of each part."""
        if self.size == 1:
            return rows.detach()
        padded = rows.new_zeros(max(sizes), rows.shape[1])
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def sum_gradients(self, gradients: Iterable[Tensor]) -> None:
        """Add up those of all processes; afterwards each has the same."""
        if self.size == 1:
            return
        for gradient in gradients:
            dist.all_reduce(gradient)

    def agree(self, number: float) -> float:
        """The first process' number, for all."""
        if self.size == 1:
            return number
        box = [number]
        dist.broadcast_object_list(box)
        return box[0]


@contextmanager
def open_world(device: torch.device) -> Iterator[World]:
    """What torchrun (or accelerate launch) started, and a world of one without them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
