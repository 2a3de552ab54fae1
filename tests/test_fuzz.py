"""Each reader meets damaged files for a moment; `python tests/fuzz.py` goes on for as long."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import execute, fuzz
from fuzz_targets import TARGETS
from splade_es.errors import CorpusError


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, target: str) -> None:
    read, seeds = TARGETS[target](tmp_path)
    _, findings = fuzz(read, seeds, seed=3, executions=100)
    assert [finding.how for finding in findings] == []


def test_the_fuzzer_finds_what_is_wrong() -> None:
    def breaks(folder: Path) -> None:
        file = folder / "file"
        if not file.exists() or b"12" not in file.read_bytes():
            raise CorpusError("twelve is missing")  # as it should be
        assert file.read_bytes().endswith(b"}"), "without its end"

    whole = {"file": b'{"a": 12}'}
    assert execute(breaks, whole) is None and execute(breaks, {"file": b""}) is None
    count, findings = fuzz(breaks, [whole], seed=0, executions=200)
    assert count == 200 and findings
    for finding in findings:
        assert "AssertionError: without its end" in finding.how
        assert execute(breaks, finding.files) is not None
