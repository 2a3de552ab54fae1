"""The right encoder for the job: by the kind of model, and by how many texts there will be.

The query side of an inference-free model is a table, which needs no torch. A few texts are encoded
in numpy where that is possible, because torch and transformers take seconds to import. Everything
else uses torch.
"""

from __future__ import annotations

import os

from splade_es.arguments import checked
from splade_es.encoders.base import Precision, TextEncoder
from splade_es.models.files import read_sides


@checked
def load_query_encoder(
    name: str | os.PathLike[str], max_length: int | None = None, *, interactive: bool = False
) -> TextEncoder:
    """Load the side of a model that encodes queries.

    Parameters
    ----------
    name : str or path
        Directory or hub name of the model.
    max_length : int, optional
        Tokens of a query; by default what the model says.
    interactive : bool
        There will be few texts, one at a time, so an encoder that starts at once is better than a
        fast one. Has an effect only together with `max_length`.

    Returns
    -------
    TextEncoder
        A `TableEncoder`, a `NumpyEncoder` or an `Encoder`.

    Raises
    ------
    ModelError
        The model does not exist, is not a SPLADE model, or cannot be loaded.
    """
    name = os.fspath(name)
    sides = read_sides(name)
    if sides.query.table:
        from splade_es.encoders.table_encoder import TableEncoder

        return TableEncoder(name, max_length)
    if interactive and max_length is not None:
        from splade_es.encoders.numpy_encoder import NumpyEncoder

        if encoder := NumpyEncoder.load(name, sides.query, max_length):
            encoder.side = "query"
            return encoder
    from splade_es.encoders.torch_encoder import Encoder

    return Encoder.load(name, max_length, side="query")


@checked
def load_document_encoder(
    name: str | os.PathLike[str], max_length: int | None = None, *, interactive: bool = False
) -> TextEncoder:
    """Load the side of a model that encodes documents. See `load_query_encoder`."""
    name = os.fspath(name)
    if interactive and max_length is not None:
        from splade_es.encoders.numpy_encoder import NumpyEncoder

        if encoder := NumpyEncoder.load(name, read_sides(name).document, max_length):
            return encoder
    from splade_es.encoders.torch_encoder import Encoder

    return Encoder.load(name, max_length)


@checked
def load_batch_encoder(
    name: str | os.PathLike[str],
    max_length: int | None = None,
    *,
    precision: Precision = "auto",
    devices: str | None = None,
    ray: str | None = None,
    ray_workers: int | None = None,
) -> TextEncoder:
    """Load the side of a model that encodes documents, for many of them. Close it at the end.

    Parameters
    ----------
    name : str or path
        Directory or hub name of the model.
    max_length : int, optional
        Tokens of a document; by default what the model says.
    precision : Precision
        Of the products.
    devices : str, optional
        "all" GPUs of this machine, or a list such as "cuda:0,cuda:2": one process for each.
    ray : str, optional
        Address of a Ray cluster to encode on, or "local".
    ray_workers : int, optional
        Encoders on the Ray cluster; by default one for each GPU, or one for each machine.

    Raises
    ------
    ModelError
        The model cannot be loaded, or there is no such Ray cluster.
    SettingsError
        A device does not exist, or the precision is unknown.
    """
    from splade_es.encoders.torch_encoder import Encoder

    if not devices and not ray:
        return Encoder.load(name, max_length, precision=precision)

    from splade_es.encoders.workers import ModelSpec, ParallelEncoder, Workers

    def start(model: ModelSpec) -> Workers:
        if ray:
            from splade_es.encoders.ray_workers import RayWorkers

            return RayWorkers(model, ray, ray_workers)
        from splade_es.encoders.device_workers import DeviceWorkers
        from splade_es.encoders.devices import named_devices

        return DeviceWorkers(model, named_devices(devices or "all"))

    return ParallelEncoder(ModelSpec(os.fspath(name), max_length, precision), start)
