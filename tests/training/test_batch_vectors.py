"""The way back of the gradient: cached, in several processes, and as plain autograd has it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import TEXTS
from splade_es.encoders.batches import BatchTokenizer
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair
from splade_es.training.batch_vectors import BatchVectors
from splade_es.training.batches import make_batch
from splade_es.training.config import TrainConfig
from splade_es.training.data import Example
from splade_es.training.distributed import World
from splade_es.training.losses import LOSSES
from splade_es.training.regularizers import flops
from splade_es.training.step import Stepper

EXAMPLES = [
    Example(
        query=" ".join(text.split()[:2]),
        positives=(text,),
        negatives=tuple(TEXTS.values())[: number % 3],
        positive_scores=(3.0,),
        negative_scores=(1.0, 0.5)[: number % 3],
        positive_keys=(id,),
        negative_keys=tuple(TEXTS)[: number % 3],
        place="",
    )
    for number, (id, text) in enumerate(reversed(TEXTS.items()))
]


def config(model: str, **settings: object) -> TrainConfig:
    return TrainConfig(
        data="", model=model, output="", doc_length=16, query_length=16, precision="fp32",
        loss="infonce=1,kl=0.5,margin_mse=0.1", batch_size=5, warmup=0.0,
        doc_lambda=0.1, query_lambda=0.1, anti_zero=0.5, noise_lambda=0.1,
        **settings,  # type: ignore[arg-type]
    )  # fmt: skip


def gradients(settings: TrainConfig, dropout: float) -> dict[str, Tensor]:
    """Of one step on EXAMPLES, before they are clipped or used."""
    model = SpladeModel.load(settings.model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    stepper = Stepper(settings, EncoderPair(model, model), World(), torch.device("cpu"), steps=1)
    stepper.step(1, map(stepper.tokenize, [make_batch(EXAMPLES)] * settings.accumulate))
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys() and any(grad.abs().max() > 1e-3 for grad in a.values())
    for name, grad in a.items():
        torch.testing.assert_close(grad, b[name], rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_plain_autograd(tiny_model: str) -> None:
    settings = config(tiny_model)
    ours = gradients(settings, dropout=0.0)
    model = SpladeModel.load(tiny_model).eval()
    batch = make_batch(EXAMPLES)

    def encode(texts: list[str]) -> Tensor:
        rows: Tensor = model(
            **model.tokenizer(
                texts, truncation=True, max_length=16, padding=True, return_tensors="pt"
            )
        )
        return rows

    queries, documents = encode(batch.queries), encode(batch.documents)
    scores = queries @ documents.T
    loss = sum(
        (weight * LOSSES[name](scores, batch.targets, 1.0) for name, weight in
         (("infonce", 1.0), ("kl", 0.5), ("margin_mse", 0.1))),
        torch.zeros(()),
    )  # fmt: skip
    noisy = torch.tensor([id for id, token in enumerate(model.vocabulary) if token in "%."])
    for rows in (queries, documents):
        loss = loss + 0.1 * flops(rows) + 0.1 * rows[:, noisy].sum(dim=1).mean()
        loss = loss + 0.5 / rows.sum().square()
    loss.backward()
    named = list(model.named_parameters())
    torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
    same(ours, {name: p.grad for name, p in named if p.grad is not None})


@pytest.mark.parametrize("tokens", [1, 20, 10_000])
def test_gradient_caching_is_exact(tiny_model: str, tokens: int) -> None:
    cached = gradients(config(tiny_model, mini_batch_tokens=tokens), dropout=0.0)
    same(cached, gradients(config(tiny_model), dropout=0.0))


def test_caching_drops_in_the_second_pass_what_it_dropped_in_the_first(tiny_model: str) -> None:
    """The same chunks with and without the cache, from the same random state."""
    model = SpladeModel.load(tiny_model).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    ids = BatchTokenizer(model, 16)(list(TEXTS.values())).all_ids()
    found = []
    for tokens in (20, None):
        torch.manual_seed(3)
        model.zero_grad()
        vectors = BatchVectors(
            model, model, ids, torch.float32, tokens, World(), [len(TEXTS)],
            chunk_tokens=20,
        )  # fmt: skip
        vectors.rows.square().sum().backward()
        vectors.backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    same(*found)


def test_accumulation_is_the_mean(tiny_model: str) -> None:
    """Twice the same batch is that batch once."""
    once = gradients(config(tiny_model), 0.0)
    same(once, gradients(config(tiny_model, accumulate=2), 0.0))


_PROCESS = """
import sys, torch
sys.path[:0] = sys.argv[3:]
import test_batch_vectors as t
from splade_es.training.distributed import open_world
model = t.SpladeModel.load(sys.argv[1])
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
with open_world(torch.device("cpu")) as world:
    stepper = t.Stepper(
        t.config(sys.argv[1]), t.EncoderPair(model, model), world, torch.device("cpu"), steps=1
    )
    outcome = stepper.step(1, map(stepper.tokenize, [t.make_batch(t.EXAMPLES)]))
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    torch.save(grads, f"{sys.argv[2]}/{world.rank}.pt")
"""


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_that_share_a_batch_have_the_gradient_of_one(
    tiny_model: str, tmp_path: Path, processes: int
) -> None:
    """In-batch negatives and FLOPS over the whole batch, with shares of different size."""
    script = tmp_path / "process.py"
    script.write_text(_PROCESS)
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()),
                   "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}  # fmt: skip
    running = [
        subprocess.Popen(
            [sys.executable, str(script), tiny_model, str(tmp_path), *folders],
            env={**environment, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0] * processes, errors
    whole = gradients(config(tiny_model), 0.0)
    for rank in range(processes):
        same(whole, torch.load(tmp_path / f"{rank}.pt", weights_only=True))


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_frozen_side_keeps_its_rows_and_gets_no_gradient(
    make_masked_lm: Callable[..., str],
) -> None:
    documents = SpladeModel.load(make_masked_lm())
    documents.requires_grad_(False)
    queries = SpladeModel.load(make_masked_lm(seed=1))
    settings = config(documents.name, kind="separate", freeze_documents=True)
    stepper = Stepper(settings, EncoderPair(documents, queries), World(), torch.device("cpu"), 1)
    before = {name: p.clone() for name, p in documents.state_dict().items()}
    moving = {name: p.clone() for name, p in queries.state_dict().items()}
    stepper.step(1, map(stepper.tokenize, [make_batch(EXAMPLES)]))
    assert all(torch.equal(before[name], p) for name, p in documents.state_dict().items())
    assert not all(torch.equal(moving[name], p) for name, p in queries.state_dict().items())
