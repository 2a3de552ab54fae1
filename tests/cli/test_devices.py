"""The options of `index` and `encode` that say how a corpus is encoded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from command_line import run
from splade_es.models import int8
from splade_es.vectors.parquet import open_vectors, read_vectors

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "cpu", "--ray", "local"], "--devices is for one machine, --ray for several"),
        (["--ray-workers", "2"], "--ray-workers needs --ray"),
        (["--devices", "cpu,abacus"], "--devices: 'abacus' does not exist here"),
        (["--precision", "int4"], "'int4' is not one of 'auto', 'fp32', 'bf16', 'fp16', 'int8'"),
    ],
)
@pytest.mark.parametrize("command", [["index", "--index", "x"], ["encode", "--output", "v"]])
def test_wrong_usage(
    corpus_file: Path, tiny_model: str, command: list[str], options: list[str], message: str
) -> None:
    result = run(*command, corpus_file, "--model", tiny_model, *options)
    assert result.exit_code == 2 and message in result.stderr, result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="here are GPUs")
def test_all_gpus_where_there_are_none(corpus_file: Path, tiny_model: str) -> None:
    result = run("encode", corpus_file, "--model", tiny_model, "--output", "v", "--devices", "all")
    assert result.exit_code == 2 and "--devices is all, but there is no GPU" in result.stderr


def test_two_devices_write_what_one_writes(corpus_file: Path, tiny_model: str) -> None:
    for output, options in (("one", []), ("two", ["--devices", "cpu,cpu"])):
        result = run("encode", corpus_file, "--model", tiny_model, "--output", output, *options)
        assert result.exit_code == 0, result.output
    one, two = (list(read_vectors(open_vectors(name))) for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert (a.document.id, a.vector.ids.tolist()) == (b.document.id, b.vector.ids.tolist())
        assert abs(a.vector.values - b.vector.values).max() <= 1


@pytest.mark.skipif(not int8.available(), reason="torch has 8-bit products for x86 only")
def test_8_bits(corpus_file: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = []
    quantize = int8.quantize_linear

    def watched(module: torch.nn.Module) -> None:
        changed.append(module)
        quantize(module)

    monkeypatch.setattr(int8, "quantize_linear", watched)
    args = ("index", corpus_file, "--model", tiny_model, "--index", "x", "--precision", "int8")
    assert run(*args).exit_code == 0 and len(changed) == 1
    assert len(run("search", "heart attack", "--index", "x", "--json").stdout.splitlines()) == 5
