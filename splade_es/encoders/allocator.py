"""The memory allocator of this process."""

from __future__ import annotations

import ctypes
import platform

# Parameters of mallopt(3), and the largest threshold that every glibc accepts.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 2**25


def keep_freed_memory() -> bool:
    """Make this process keep the memory that tensors free, and use it for the next tensors.

    By default glibc returns the megabytes of each layer to the system and fetches them again page
    by page, which takes a tenth of the time of encoding on a CPU. It changes the whole process, so
    commands call it, and the library does not.

    Returns
    -------
    bool
        Whether the setting was made. Other C libraries than glibc do not have it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD}
    return all([library.mallopt(name, value) for name, value in settings.items()])
