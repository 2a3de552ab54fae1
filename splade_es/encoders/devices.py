"""Devices, and the number formats that are fast on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from splade_es.encoders.base import Precision
from splade_es.errors import SettingsError

_DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.float32,  # all but the products inside the encoder
}


def pick_device() -> torch.device:
    """Return CUDA if there is a GPU, otherwise Apple's GPU, otherwise the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in."""
    return _fast_dtype(device) if precision == "auto" else _DTYPES[precision]


def _fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it faster than float32, otherwise float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


def named_device(name: str | torch.device, setting: str = "device") -> torch.device:
    """Return the device of a name such as "cuda:0". Raises SettingsError if it does not exist."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise SettingsError(f"`{setting}`: {name!r} does not exist here ({reason})") from error
    return torch.device(name)


def named_devices(names: str) -> list[str]:
    """Split a list such as "cuda:0,cuda:2", or "all" GPUs.

    Raises SettingsError for a device that does not exist.
    """
    if names == "all":
        if not torch.cuda.is_available():
            raise SettingsError(
                "`devices` is all, but there is no GPU", 'Leave it out, or set it to "cpu".'
            )
        return [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    devices = [name.strip() for name in names.split(",")]
    for name in devices:
        named_device(name, "devices")
    return devices


@contextmanager
def attention_without_plans(device: torch.device) -> Iterator[None]:
    """Keep torch from cuDNN's attention: it plans each shape of a batch anew, for 0.2 s."""
    if device.type != "cuda":
        yield
        return
    others = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(others):
        yield
