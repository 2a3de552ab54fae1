"""What an index remembers of the model that made it, so that only fitting vectors meet it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from splade_es.errors import IndexMismatch


@dataclass(frozen=True, slots=True)
class IndexMeta:
    """How the vectors of an index were made. Stored in the `_meta` of the index mapping.

    Attributes
    ----------
    toolkit : str
        Version of splade-es that created the index.
    model : str
        Directory or hub name of the model.
    fingerprint : str
        SHA-256 of the weights that encode documents.
    vocabulary : str
        SHA-256 of the tokens in id order.
    codec : int
        Version of the feature name escape, see `splade_es.features`.
    scale : float
        Stored integer = round(weight x scale).
    max_length : int
        Tokens of a document that are encoded.
    pooling : str
        Pooling and activation of the model.
    """

    toolkit: str
    model: str
    fingerprint: str
    vocabulary: str
    codec: int
    scale: float
    max_length: int
    pooling: str

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> IndexMeta:
        """The inverse of `to_dict`; other keys are ignored.

        Raises KeyError for a missing one, and ValueError for any other damage.
        """
        if not isinstance(stored, Mapping):
            raise ValueError("it is no object")
        found = {name: stored[name] for name in cls.__dataclass_fields__}
        for name, value in found.items():
            kinds = {"scale": (int, float), "codec": (int,), "max_length": (int,)}.get(name, (str,))
            if type(value) not in kinds:
                raise ValueError(f"{name} is {str(value)[:40]!r}")
        if not (math.isfinite(found["scale"]) and found["scale"] > 0 and found["max_length"] > 0):
            raise ValueError("scale and max_length must be above 0")
        return cls(**found)


def check_same(stored: IndexMeta, ours: IndexMeta, index: str) -> None:
    """Check that vectors made by `ours` fit an index made by `stored`.

    Raises
    ------
    IndexMismatch
        The first difference: another model, scale, length, codec or pooling.
    """
    # the version of the toolkit, and the path of the model on this machine, may differ
    wanted = asdict(replace(ours, toolkit=stored.toolkit, model=stored.model))
    for name, value in asdict(stored).items():
        if value != wanted[name]:
            what = "another model" if name in ("fingerprint", "vocabulary") else f"{name} {value}"
            raise IndexMismatch(
                f"The index {index!r} was made with {what} ({stored.model})",
                "Use that model and its settings, or index again with `recreate`.",
            )
