"""What tensors free is kept for the next ones."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from splade_es.encoders.allocator import keep_freed_memory

# By default glibc maps each block above 128 KiB anew, and gives it back to the system when it is
# freed. It can be made to keep blocks of up to 32 MiB.
MAPPED = """
import ctypes
from splade_es.encoders.allocator import keep_freed_memory

class Mallinfo2(ctypes.Structure):  # of mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def mapped_and_kept():
    before = libc.mallinfo2()
    blocks = [libc.malloc(ctypes.c_size_t(25 * 2**20)) for _ in range(4)]
    mapped = libc.mallinfo2().hblks - before.hblks
    for block in blocks:
        libc.free(block)
    return mapped, libc.mallinfo2().fordblks - before.fordblks > 90 * 2**20

print(mapped_and_kept(), keep_freed_memory(), mapped_and_kept())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_freed_memory_is_kept() -> None:
    """Counted by glibc itself: blocks that it mapped, and bytes kept when they were freed."""
    run = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True)
    if "mallinfo2" in run.stderr:
        pytest.skip("glibc has mallinfo2 since 2.33")
    assert run.stdout == "(4, False) True (0, True)\n", run.stderr


@pytest.mark.skipif(platform.libc_ver()[0] == "glibc", reason="glibc has this setting")
def test_another_c_library_is_left_alone() -> None:
    assert keep_freed_memory() is False
