"""Encoding on a card: the rows, in order, whatever the batches, and when the memory is short."""

import threading

import numpy as np
import pytest
import torch

from random_model import write_model
from splade_es.encoders.base import Precision
from splade_es.encoders.torch_encoder import Encoder
from splade_es.records import SparseRow

WORDS = ["river", "stone", "cloud", "field", "winter", "engine", "music", "paper", "garden"]
TEXTS = [
    " ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 2 + i % 60)) for i in range(700)
] + ["", "[SEP]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model")
    write_model(TEXTS[:700], path, "minilm")
    return str(path)


def cosine(a: SparseRow, b: SparseRow) -> float:
    _, left, right = np.intersect1d(a.ids, b.ids, return_indices=True)
    dot = float(a.weights[left] @ b.weights[right])
    return dot / float(np.linalg.norm(a.weights) * np.linalg.norm(b.weights))


@pytest.mark.parametrize(
    ("precision", "limit"), [("fp32", 0.99999), ("fp16", 0.999), ("bf16", 0.98)]
)
def test_rows_are_those_of_the_cpu(model: str, precision: Precision, limit: float) -> None:
    expected = list(Encoder.load(model, 64, device="cpu", precision="fp32").encode(TEXTS))
    rows = list(Encoder.load(model, 64, device="cuda", precision=precision).encode(TEXTS))
    assert len(rows) == len(TEXTS)
    assert len(rows[-1].ids) == len(rows[-2].ids) == 0
    found = [cosine(a, b) for a, b in zip(rows[:-2], expected[:-2], strict=True)]
    assert min(found) > limit, min(found)


def test_the_order_does_not_depend_on_the_batches(model: str) -> None:
    encoder = Encoder.load(model, 64, precision="fp32")
    large, small = (list(encoder.encode(TEXTS, batch_tokens=n)) for n in (65536, 200))
    for a, b in zip(large, small, strict=True):
        # products of other shapes round otherwise, and a weight of almost nothing comes or goes
        assert len(a.ids) == len(b.ids) == 0 or cosine(a, b) > 0.99999


def test_sources_are_those_of_the_cpu(model: str) -> None:
    some = TEXTS[:60]
    here = Encoder.load(model, 64, precision="fp32").encode(some, with_sources=True)
    there = Encoder.load(model, 64, device="cpu", precision="fp32").encode(some, with_sources=True)
    for a, b in zip(here, there, strict=True):
        assert a.sources is not None and b.sources is not None
        if a.ids.tolist() == b.ids.tolist():
            assert (a.sources == b.sources).mean() > 0.95


def test_a_batch_that_does_not_fit_is_made_smaller(model: str) -> None:
    encoder = Encoder.load(model, 64, precision="bf16")
    expected = list(encoder.encode(TEXTS, batch_tokens=2048))
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    used = torch.cuda.memory_reserved() / total
    refused = torch.cuda.memory_stats()["num_ooms"]
    torch.cuda.set_per_process_memory_fraction(used + 300e6 / total)  # a few hundred MB more
    try:
        rows = list(encoder.encode(TEXTS * 3, batch_tokens=2**20))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_stats()["num_ooms"] > refused, "the memory was not short"
    for a, b in zip(rows, expected * 3, strict=True):
        assert not len(b.ids) or cosine(a, b) > 0.99


def test_two_threads_share_an_encoder(model: str) -> None:
    encoder = Encoder.load(model, 64, precision="fp32")
    expected = list(encoder.encode(TEXTS))
    found: dict[int, list[SparseRow]] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: list(encoder.encode(TEXTS))}))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rows in found.values():
        for a, b in zip(rows, expected, strict=True):
            assert len(a.ids) == len(b.ids) == 0 or cosine(a, b) > 0.99999
    assert len(found) == 2
