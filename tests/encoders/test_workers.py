"""Encoding by several processes: the same rows, in the same order, as by one."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import WORDS
from splade_es.encoders.device_workers import DeviceWorkers
from splade_es.encoders.load import load_batch_encoder
from splade_es.encoders.ray_workers import RayWorkers
from splade_es.encoders.torch_encoder import Encoder
from splade_es.encoders.workers import ModelSpec, ParallelEncoder
from splade_es.errors import ModelError, SettingsError

TEXTS = [" ".join(WORDS[i % 40 : i % 40 + i % 17 + 1]) for i in range(1500)]
TEXTS[700] = " ".join(WORDS * 2)  # longer than the model reads


def same(many: ParallelEncoder, name: str) -> None:
    one = Encoder.load(name, precision="fp32")
    assert (many.vocabulary, many.max_length, many.name, many.pooling) == (
        one.vocabulary, one.max_length, one.name, one.pooling,
    )  # fmt: skip
    rows = list(many.encode(iter(TEXTS)))
    for row, expected in zip(rows, one.encode(TEXTS), strict=True):
        assert row.ids.tolist() == expected.ids.tolist()
        assert row.weights == pytest.approx(expected.weights, rel=1e-4, abs=1e-5)
        assert row.truncated == expected.truncated
    assert [n for n, row in enumerate(rows) if row.truncated] == [700]
    (row,) = many.encode(["heart attack"], with_sources=True)
    (expected,) = one.encode(["heart attack"], with_sources=True)
    assert row.sources is not None and expected.sources is not None
    assert row.sources.tolist() == expected.sources.tolist()


def test_two_devices(tiny_model: str) -> None:
    def start(model: ModelSpec) -> DeviceWorkers:
        return DeviceWorkers(model, ["cpu", "cpu"])

    others = set(multiprocessing.active_children())
    many = ParallelEncoder(ModelSpec(tiny_model, None, "fp32"), start)
    try:
        same(many, tiny_model)
        processes = set(multiprocessing.active_children()) - others
        assert len(processes) == 2

        asked = 0

        def endless() -> Iterator[str]:
            nonlocal asked
            while True:
                asked += 1
                yield "heart attack"

        next(many.encode(endless()))
        assert asked <= 256 * 5  # windows of both workers, and the next one

        for process in processes:
            process.kill()
        with pytest.raises(ModelError, match="process that encodes has ended unexpectedly"):
            list(many.encode(TEXTS))
    finally:
        many.close()


def test_a_worker_that_cannot_load_the_model_says_why(tiny_model: str) -> None:
    def start(model: ModelSpec) -> DeviceWorkers:
        return DeviceWorkers(model._replace(name="/no/such"), ["cpu"])

    with pytest.raises(ModelError, match="/no/such: no such directory"):
        ParallelEncoder(ModelSpec(tiny_model, None, "fp32"), start)


def test_a_precision_that_does_not_exist_is_named(tiny_model: str) -> None:
    with pytest.raises(SettingsError, match="`precision` is 'fp8'"):
        load_batch_encoder(tiny_model, precision="fp8", devices="cpu")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="`devices`: 'abacus' does not exist here"):
        load_batch_encoder(tiny_model, devices="cpu,abacus")


@pytest.mark.filterwarnings("default")  # of ray and what it imports
def test_two_workers_of_ray(tiny_model: str, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'splade-es[ray]'")
    workers = []

    def start_two(model: ModelSpec) -> RayWorkers:
        workers.append(RayWorkers(model, "local", 2))
        return workers[0]

    many = ParallelEncoder(ModelSpec(tiny_model, None, "fp32"), start_two)
    try:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # which Ray would have for itself
        same(many, tiny_model)
        assert workers[0].count == 2
    finally:
        many.close()

    def start(model: ModelSpec) -> RayWorkers:
        return RayWorkers(model._replace(name="/no/such"), "local", 1)

    with pytest.raises(ModelError, match="/no/such: no such directory"):
        ParallelEncoder(ModelSpec(tiny_model, None, "fp32"), start)
    with pytest.raises(ModelError, match=r"too few for 1000 encoders\. Set `ray_workers` to"):
        RayWorkers(ModelSpec(tiny_model, None, "fp32"), "local", 1000)
    with pytest.raises(ModelError, match=r"no Ray cluster at 127\.0\.0\.1:1\."):
        RayWorkers(ModelSpec(tiny_model, None, "fp32"), "127.0.0.1:1")
