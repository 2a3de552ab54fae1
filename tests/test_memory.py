"""What tensors free is kept for the next ones."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from splade_es.encoders.allocator import keep_freed

keep_freed()  # without it there are often 490,000 faults, as the addresses fall
for _ in range(2):  # the first time all memory is new
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        tensors = [torch.ones(6 * 2**20) for _ in range(4)]  # 25 MB each
        del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_kept() -> None:
    command = [sys.executable, "-c", FAULTS]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 5000
