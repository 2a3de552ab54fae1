"""The fingerprint of a model's weights, and its memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from splade_es.models.files import fingerprint


@pytest.fixture
def weights(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layout, "_REMEMBERED_BYTES", 1)
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(b"one")
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_it_is_counted_once(weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fingerprint(str(weights.parent)) == sha(b"one")
    monkeypatch.setattr(layout, "_hash", lambda files: pytest.fail("counted again"))
    assert fingerprint(str(weights.parent)) == sha(b"one")
    assert len(list(home.iterdir())) == 1


def test_other_weights_of_the_same_size_and_time_are_noticed(weights: Path) -> None:
    times = weights.stat()
    assert fingerprint(str(weights.parent)) == sha(b"one")
    weights.write_bytes(b"two")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(str(weights.parent)) == sha(b"two")


@pytest.mark.parametrize("memory", ["{", "[1]", '"x"', "null"])
def test_a_broken_memory_is_written_anew(weights: Path, home: Path, memory: str) -> None:
    home.mkdir()
    (home / "fingerprints.json").write_text(memory)
    assert fingerprint(str(weights.parent)) == sha(b"one")
    assert sha(b"one") in (home / "fingerprints.json").read_text()


def test_a_home_that_cannot_be_written_does_no_harm(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPLADE_ES_HOME", str(tmp_path / "file"))
    assert fingerprint(str(weights.parent)) == sha(b"one")


def test_small_models_are_not_remembered(
    weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("SPLADE_ES_HOME", str(home))
    assert fingerprint(str(weights.parent)) == sha(b"one")
    assert not home.exists()
