"""Model weights -> the integers that are stored.

Lucene keeps 9 significant bits of a feature's weight and truncates the rest. So on both servers the
integers from 1 to 512 are stored exactly, and scores are exact sums; most other numbers are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from splade_es.errors import ModelError
from splade_es.limits import MAX_WEIGHT
from splade_es.records import Quantized, SparseRow


@dataclass(frozen=True)
class Quantizer:
    """Makes stored integers: round(weight x scale), where 0 is dropped and 512 is the maximum.

    Parameters
    ----------
    scale : float
        Above 0.
    top_k : int, optional
        Keep only this many terms, those with the largest weights; of equal weights that with the
        smaller vocabulary id.
    threshold : float
        Drop weights below this, in the unit of the model.

    Raises
    ------
    ModelError
        A setting is out of range.
    """

    scale: float = 100.0
    top_k: int | None = None
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ModelError(f"The scale of stored weights is {self.scale}", "Set it above 0.")
        if self.top_k is not None and self.top_k < 1:
            raise ModelError(f"top_k is {self.top_k}", "Keep at least 1 term of a document.")
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise ModelError(
                f"The threshold of weights is {self.threshold}", "Set it to 0 or more."
            )

    @property
    def settings(self) -> str:
        """What a stored vector depends on, except the model and the scale: an index records it."""
        return f"top_k {self.top_k}, threshold {self.threshold:g}"

    def quantize(self, row: SparseRow) -> Quantized:
        """Convert a row. Raises ModelError for a weight that is negative or not finite."""
        # in float64, where neither the product nor the threshold is rounded
        ids, weights = row.ids, row.weights.astype(np.float64)
        bad = ~(np.isfinite(weights) & (weights >= 0))
        if bad.any():
            first = int(bad.argmax())
            raise ModelError(
                f"The model gives token {ids[first]} the weight {weights[first]}",
                "Its training went wrong: use an earlier checkpoint.",
            )
        exact = np.rint(weights * self.scale)
        keep = np.flatnonzero((exact > 0) & (weights >= self.threshold))
        if self.top_k is not None and keep.size > self.top_k:
            strongest = np.lexsort((ids[keep], -weights[keep]))[: self.top_k]
            keep = np.sort(keep[strongest])
        kept = exact[keep]
        return Quantized(
            ids[keep].astype(np.int32),
            np.minimum(kept, MAX_WEIGHT).astype(np.int32),
            int((kept > MAX_WEIGHT).sum()),
        )
