"""Model weights -> the integers that are stored.

Lucene keeps 9 significant bits of a feature's weight and truncates the rest. So on both servers the
integers from 1 to 512 are stored exactly, and scores are exact sums; most other numbers are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        (quantized,) = self.quantize_all([row])
        if isinstance(quantized, ModelError):
            raise quantized
        return quantized

    def quantize_all(self, rows: Sequence[SparseRow]) -> list[Quantized | ModelError]:
        """Convert many rows at once, in a quarter of the time.

        Parameters
        ----------
        rows : sequence of SparseRow
            D rows with N weights in all.

        Returns
        -------
        list of Quantized or ModelError
            One for each row; an error for one with a weight that is negative or not finite.
        """
        if not rows:
            return []
        lengths = [row.ids.size for row in rows]
        number = np.repeat(np.arange(len(rows)), lengths)  # [N], the row of each weight
        ids = np.concatenate([row.ids for row in rows])  # [N]
        # in float64, where neither the product nor the threshold is rounded
        weights = np.concatenate([row.weights for row in rows], dtype=np.float64)  # [N]
        exact = np.rint(weights * self.scale)  # [N]
        kept = np.flatnonzero((exact > 0) & (weights >= self.threshold))  # [n], of N
        if self.top_k is not None:
            kept = _strongest(weights, kept, number, self.top_k)
        exact, number = exact[kept], number[kept]  # [n]
        kept_ids = ids[kept].astype(np.int32, copy=False)
        values = np.minimum(exact, MAX_WEIGHT).astype(np.int32)
        saturated = np.bincount(number[exact > MAX_WEIGHT], minlength=len(rows)).tolist()  # [D]
        ends = np.bincount(number, minlength=len(rows)).cumsum().tolist()  # [D]
        result: list[Quantized | ModelError] = [
            Quantized(kept_ids[start:end], values[start:end], clipped, row.truncated)
            for start, end, clipped, row in zip([0, *ends[:-1]], ends, saturated, rows, strict=True)
        ]
        bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))  # almost always empty
        starts = np.cumsum([0, *lengths])  # [D + 1]
        for place in bad[::-1].tolist():  # the first of a row comes last, and is what is said
            row = int(starts.searchsorted(place, "right")) - 1
            result[row] = ModelError(
                f"The model gives token {ids[place]} the weight {weights[place]}",
                "Its training went wrong: use an earlier checkpoint.",
            )
        return result


def _strongest(
    weights: NDArray[np.float64], kept: NDArray[np.intp], number: NDArray[np.intp], top_k: int
) -> NDArray[np.intp]:
    """The `top_k` largest weights of each row.

    weights, number: [N], the row of each weight; kept: [n], places of those to choose from.
    """
    chosen = []
    for row in np.split(kept, np.flatnonzero(np.diff(number[kept])) + 1):
        if row.size > top_k:
            of_row = weights[row]
            least = np.partition(of_row, -top_k)[-top_k]
            larger = of_row > least
            equal = np.flatnonzero(of_row == least)[: top_k - np.count_nonzero(larger)]
            larger[equal] = True  # the first of them, whose ids are smaller
            row = row[larger]
        chosen.append(row)
    return np.concatenate(chosen)
