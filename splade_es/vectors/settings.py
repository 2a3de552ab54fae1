"""How documents are encoded: the settings that loading, encoding and backfilling share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

from splade_es.encoders.base import Precision, TextEncoder
from splade_es.encoders.load import load_batch_encoder
from splade_es.errors import SettingsError
from splade_es.models.files import read_sides
from splade_es.quantize import Quantizer


class EncodingSettings(TypedDict, total=False):
    """Settings of encoding documents. Each may be left out.

    Attributes
    ----------
    max_length : int
        Tokens of a document; by default what the model says.
    scale : float
        Stored integer = round(weight x scale); 100 by default.
    top_k : int
        Keep only this many terms of a document, those with the largest weights.
    threshold : float
        Drop document terms below this weight.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
        Number format of the products. auto is bf16 where the hardware has it, otherwise fp32. int8
        is for x86 CPUs, faster and not exact.
    devices : str
        "all" GPUs of this machine, or a list such as "cuda:0,cuda:2".
    ray : str
        Address of a Ray cluster to encode on, or "local".
    ray_workers : int
        Encoders on the Ray cluster; by default one for each GPU, or one for each machine.
    """

    max_length: int | None
    scale: float | None
    top_k: int | None
    threshold: float | None
    precision: Precision | None
    devices: str | None
    ray: str | None
    ray_workers: int | None


# Settings with which an encoder is loaded.
_LOADING = ("max_length", "precision", "devices", "ray", "ray_workers")


def make_quantizer(settings: EncodingSettings) -> Quantizer:
    """Make the quantizer of these settings. Raises ModelError for one out of range."""
    given: dict[str, Any] = {
        name: value
        for name in ("scale", "top_k", "threshold")
        if (value := settings.get(name)) is not None
    }
    return Quantizer(**given)


def check_encoding(
    model: str | TextEncoder | None, settings: EncodingSettings
) -> str | TextEncoder:
    """Return the model. Raises SettingsError if there is none, or settings do not go together."""
    if model is None:
        raise SettingsError("`model` is missing", "Name a directory or a hub model.")
    if isinstance(model, TextEncoder):
        if model.side == "query" and ((sides := read_sides(model.name)).query != sides.document):
            raise SettingsError(
                "`model` is an encoder of queries, and documents need one of their own",
                "Load it with Encoder.load.",
            )
        for name in _LOADING:
            if settings.get(name) is not None:
                raise SettingsError(
                    f"`{name}` has no effect on an encoder that is already loaded",
                    "Set it when you load the encoder.",
                )
    if settings.get("devices") and settings.get("ray"):
        raise SettingsError(
            "`devices` is for one machine, `ray` for several", "Leave out one of them."
        )
    if settings.get("ray_workers") and not settings.get("ray"):
        raise SettingsError("`ray_workers` needs `ray`")
    return model


@contextmanager
def open_encoder(model: str | TextEncoder, settings: EncodingSettings) -> Iterator[TextEncoder]:
    """Open the encoder of documents. One that is loaded here is closed at the end."""
    if isinstance(model, TextEncoder):
        yield model
        return
    with load_batch_encoder(
        model,
        settings.get("max_length"),
        precision=settings.get("precision") or "auto",
        devices=settings.get("devices"),
        ray=settings.get("ray"),
        ray_workers=settings.get("ray_workers"),
    ) as encoder:
        yield encoder
