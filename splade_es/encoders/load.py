"""The right encoder for the job: by the kind of model, and by how many texts will come.

Queries of an inference-free model need a table only. A few texts are encoded in numpy where that is
possible, because torch and transformers take seconds to import. Everything else takes torch.
"""

from __future__ import annotations

from splade_es.encoders.base import Precision, TextEncoder
from splade_es.models.files import read_sides


def load_query_encoder(
    name: str, max_length: int | None = None, *, interactive: bool = False
) -> TextEncoder:
    """Load the side of a model that encodes queries.

    Parameters
    ----------
    name : str
        Directory or hub name of the model.
    max_length : int, optional
        Tokens of a query; by default what the model says.
    interactive : bool
        Few texts will come, one at a time: an encoder that starts at once is better than a fast
        one. Needs a `max_length` to have an effect.

    Raises
    ------
    ModelError
        The model does not exist, or is no SPLADE model.
    """
    sides = read_sides(name)
    if sides.query.table:
        from splade_es.encoders.table_encoder import TableEncoder

        return TableEncoder(name, max_length)
    if interactive and max_length is not None:
        from splade_es.encoders.numpy_encoder import NumpyEncoder

        if encoder := NumpyEncoder.load(name, sides.query, max_length):
            return encoder
    from splade_es.encoders.torch_encoder import Encoder

    return Encoder.load(name, max_length, side="query")


def load_document_encoder(
    name: str, max_length: int | None = None, *, interactive: bool = False
) -> TextEncoder:
    """Load the side of a model that encodes documents. See `load_query_encoder`."""
    if interactive and max_length is not None:
        from splade_es.encoders.numpy_encoder import NumpyEncoder

        if encoder := NumpyEncoder.load(name, read_sides(name).document, max_length):
            return encoder
    from splade_es.encoders.torch_encoder import Encoder

    return Encoder.load(name, max_length)


def load_batch_encoder(
    name: str,
    max_length: int | None = None,
    *,
    precision: Precision = "auto",
    devices: str | None = None,
    ray: str | None = None,
    ray_workers: int | None = None,
) -> TextEncoder:
    """Load the side of a model that encodes documents, for many of them. Close it at the end.

    devices: "all" GPUs, or a list such as "cuda:0,cuda:2"; ray: address of a Ray cluster, or
    "local"; ray_workers: encoders there. Raises ModelError, and SettingsError for a device that
    does not exist.
    """
    from splade_es.encoders.torch_encoder import Encoder

    if not devices and not ray:
        return Encoder.load(name, max_length, precision=precision)

    from splade_es.encoders.workers import (
        DeviceWorkers,
        ModelSpec,
        ParallelEncoder,
        RayWorkers,
        Workers,
        named_devices,
    )

    def start(model: ModelSpec) -> Workers:
        if ray:
            return RayWorkers(model, ray, ray_workers)
        return DeviceWorkers(model, named_devices(devices or "all"))

    return ParallelEncoder(ModelSpec(name, max_length, precision), start)
