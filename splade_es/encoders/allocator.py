"""The memory of this process."""

from __future__ import annotations

import ctypes
import platform

# Of mallopt(3), and the largest threshold that every glibc takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 2**25


def keep_freed() -> None:
    """Keep what tensors free for the next ones, in the whole process.

    Else glibc gives the megabytes of each layer back to the system and fetches them again page by
    page, which is a tenth of the time of encoding on a CPU. Does nothing with another C library.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
