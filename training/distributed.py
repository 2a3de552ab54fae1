"""Several processes, one batch.

Each process encodes its share of the texts of a batch. Then all processes have the vectors of all
texts, and each computes the loss of the whole batch. The gradient of that loss reaches only the
texts of the own share, so the sum over all processes is the gradient that one process would have
with the whole batch: in-batch negatives, FLOPS and everything else that looks at a whole batch give
the same result on one GPU and on sixteen.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from splade_es.encoders.devices import pick_device


class World:
    """The processes of a run. rank: the number of this one; size: how many there are."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which alone evaluates, saves and logs."""
        return self.rank == 0

    def shares(self, count: int) -> list[range]:
        """The part of `count` items that each process has; sizes differ by one item at most."""
        return [
            range(count * rank // self.size, count * (rank + 1) // self.size)
            for rank in range(self.size)
        ]

    def gather(self, rows: Tensor, sizes: list[int]) -> Tensor:
        """The rows of all processes in the order of their ranks, without a gradient.

        rows: [n, V] of this process; sizes: n of each process, which add up to the result's N.
        """
        if self.size == 1:
            return rows.detach()
        padded = rows.new_zeros(max(sizes), rows.shape[1])  # [max n, V]
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])  # [N, V]

    def sum_gradients(self, gradients: Iterable[Tensor]) -> None:
        """Replace gradients by their sums over all processes."""
        if self.size == 1:
            return
        for gradient in gradients:
            dist.all_reduce(gradient)

    def broadcast(self, number: float) -> float:
        """The number of the first process, in all processes."""
        if self.size == 1:
            return number
        box = [number]
        dist.broadcast_object_list(box)
        return box[0]


def is_first_process() -> bool:
    """Whether this process leads the ones that torchrun started, or is the only one."""
    return _world_size() == 1 or os.environ.get("RANK", "0") == "0"


def training_device() -> torch.device:
    """The device of this process: with several GPUs the one that torchrun gave it.

    Processes that are more than the GPUs share them.
    """
    device = pick_device()
    if device.type == "cuda":
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return device


@contextmanager
def open_world(device: torch.device) -> Iterator[World]:
    """Connect the processes that torchrun or accelerate started; without them, one process."""
    if _world_size() == 1:
        yield World()
        return
    # NCCL takes no two processes on one GPU
    alone = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count()
    dist.init_process_group("nccl" if device.type == "cuda" and alone else "gloo")
    try:
        yield World(dist.get_rank(), _world_size())
    finally:
        dist.destroy_process_group()


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
