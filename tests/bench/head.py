"""The fused head against the dense formula: time and peak memory, forward and backward.

    python tests/bench/head.py [--batch 32] [--length 128] [--dim 384] [--vocabulary 30522]

Both run on the same random batch in one process, in turn. Memory is the growth of the resident set
to its peak (VmHWM, which Linux lets a process set back), so the inputs are not counted.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from splade_es.models.head import splade_head

RUNS = 3


def dense_head(hidden: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    logits = hidden @ weight.T + bias  # [B, L, V]
    return (torch.log1p(torch.relu(logits)) * mask.unsqueeze(-1)).amax(dim=1)


def status(name: str) -> float:
    """A figure of this process from /proc, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def measure(step: Callable[[], None]) -> tuple[float, float]:
    """Seconds and MB of one step."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    return seconds, status("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--vocabulary", type=int, default=30522)
    args = parser.parse_args()

    torch.manual_seed(0)
    hidden = torch.randn(args.batch, args.length, args.dim, requires_grad=True)
    weight = (0.05 * torch.randn(args.vocabulary, args.dim)).requires_grad_()
    # about a tenth of the vocabulary is active, as in the first steps of a training
    bias = torch.full((args.vocabulary,), -3.0, requires_grad=True)
    mask = torch.ones(args.batch, args.length)
    upstream = torch.rand(args.batch, args.vocabulary)
    grads: dict[str, list[Tensor]] = {}
    active: dict[str, float] = {}

    def step(name: str, head: Callable[..., Tensor]) -> Callable[[], None]:
        def run() -> None:
            rows = head(hidden, mask, weight, bias)
            active[name] = float((rows > 0).sum(dim=1).float().mean())
            found = torch.autograd.grad((rows * upstream).sum(), (hidden, weight, bias))
            grads[name] = [grad.to_dense() for grad in found]

        return run

    steps = {"dense": step("dense", dense_head), "fused": step("fused", splade_head)}
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(RUNS + 1):
        for name, run in steps.items():
            result = measure(run)
            if number:  # the first is a warm-up
                figures[name].append(result)

    difference = max(
        float((a - b).abs().max() / b.abs().max())
        for a, b in zip(grads["fused"], grads["dense"], strict=True)
    )
    print(
        f"batch {args.batch}, length {args.length}, dim {args.dim}, vocabulary {args.vocabulary}, "
        f"{torch.get_num_threads()} threads; {active['fused']:.0f} active entries a row; "
        f"largest relative difference of a gradient {difference:.1e}"
    )
    print(f"{'head':<8}{'seconds':>10}{'peak MB':>10}")
    medians = {}
    for name, results in figures.items():
        medians[name] = [statistics.median(column) for column in zip(*results, strict=True)]
        print(f"{name:<8}{medians[name][0]:>10.2f}{medians[name][1]:>10.0f}")
    faster, smaller = (d / f for d, f in zip(medians["dense"], medians["fused"], strict=True))
    print(f"{'ratio':<8}{faster:>9.1f}x{smaller:>9.1f}x")


if __name__ == "__main__":
    main()
