"""Which tokens of a vector are not in the text it was made of.

To look for each token by itself costs more than all else that is done for a document: a text of
two thousand characters is walked through seventy times, until twenty tokens are found that it does
not contain. So it is noted down once where every three bytes of a text stand. A token is not there
if its first, middle or last three bytes are not, and it is there if it stands where one of these
do. Half of the tokens are told by that, those of many texts at once; the others are looked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Bits of the number of three bytes. Where two threes share a number, or one stands in several
# places, only the last is noted down, and a token may have to be looked for.
_BITS = 13
# Three bytes are read as four in little-endian order: by this factor the fourth has no weight.
_FACTOR = np.uint32(0x9E3779 << 8)
# Bytes of a token that are compared with a text; a longer one is looked for.
_WIDTH = 16
# Between texts: a byte that UTF-8 never has.
_GAP = b"\xff"
# Tokens of a text that are told at once: mostly enough are new among them.
_MOST = 128


class NewTokens:
    """Finds the tokens that texts do not contain, whatever their case.

    surfaces: of the tokens of a vocabulary of V, by id; see `splade_es.features.surface`.
    """

    def __init__(self, surfaces: Sequence[str]) -> None:
        self._surfaces = [surface.encode() for surface in surfaces]
        sizes = np.array([len(surface) for surface in self._surfaces])  # [V]
        letters = np.array(self._surfaces, f"S{_WIDTH}")  # [V], longer ones are cut
        within = np.arange(_WIDTH) < sizes[:, None]  # [V, _WIDTH]
        self._letters = letters.view("<u8").reshape(-1, 2)  # 0 behind a token
        self._within = (within * np.uint8(255)).view("<u8")  # [V, 2]
        self._told = (sizes >= 3) & (sizes <= _WIDTH)  # [V]
        # where in a token its first, middle and last three bytes are, and their numbers
        last = np.clip(sizes, 3, _WIDTH) - 3  # [V]
        numbers = _numbers(letters.tobytes() + bytes(4)).reshape(-1, _WIDTH)  # [V, _WIDTH]
        rows = np.arange(sizes.size)
        self._threes = [(at, numbers[rows, at]) for at in (0 * last, last // 2, last)]  # [V] each

    def of(
        self, texts: Sequence[str], ids: Sequence[NDArray[np.int64]], limit: int
    ) -> list[list[int]]:
        """The first `limit` ids of each text [n] whose token is not in it."""
        bodies = [text.lower().encode("utf-8", "surrogatepass") for text in texts]
        told = [row[:_MOST] for row in ids]
        counts = [row.size for row in told]
        all_ids = np.concatenate(told)  # [N]
        possible, sure = self._look(bodies, all_ids, counts)
        left = np.flatnonzero(~sure)  # [m], of N: what is new, or must be looked for
        bounds = left.searchsorted(np.cumsum(counts)).tolist()
        left_ids, doubtful = all_ids[left].tolist(), possible[left].tolist()
        found = []
        start = 0
        for body, row, end in zip(bodies, ids, bounds, strict=True):
            new: list[int] = []
            candidates = zip(left_ids[start:end], doubtful[start:end], strict=True)
            for id, doubt in candidates:
                if not doubt or self._surfaces[id] not in body:
                    new.append(id)
                    if len(new) == limit:
                        break
            else:
                for id in row[_MOST:].tolist():
                    if self._surfaces[id] not in body:
                        new.append(id)
                        if len(new) == limit:
                            break
            found.append(new)
            start = end
        return found

    def _look(
        self, bodies: Sequence[bytes], ids: NDArray[np.int64], counts: Sequence[int]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether each token may be in its text, and whether it surely is: both [N].

        counts: how many of the ids are of each text.
        """
        lengths = [len(body) + len(_GAP) for body in bodies]
        joined = _GAP.join([*bodies, _GAP * 2 * _WIDTH])
        of_text = np.arange(len(bodies)) << _BITS
        keys = _numbers(joined)[: sum(lengths)]  # [L]
        keys += np.repeat(of_text, lengths)
        place_of = np.full(len(bodies) << _BITS, -1, np.int32)
        place_of[keys] = np.arange(keys.size, dtype=np.int32)

        of_id = np.repeat(of_text, counts)  # [N]
        found = [place_of.take(of_id + number.take(ids)) for _, number in self._threes]  # 3 x [N]
        told = self._told.take(ids)  # [N]
        present = np.minimum(np.minimum(found[0], found[1]), found[2]) >= 0  # [N]
        check = np.flatnonzero(present & told)  # [n], of N; so are all below
        checked = ids[check]
        letters, within = self._letters.take(checked, 0), self._within.take(checked, 0)  # [n, 2]
        windows = np.ndarray((keys.size,), f"V{_WIDTH}", joined, strides=(1,))
        right = np.zeros(check.size, np.bool_)
        for (at, _), places in zip(self._threes, found, strict=True):
            begin = np.maximum(places[check] - at.take(checked), 0)
            other = (windows[begin].view("<u8").reshape(-1, 2) ^ letters) & within
            right |= (other[:, 0] | other[:, 1]) == 0
        sure = np.zeros(ids.size, np.bool_)
        sure[check] = right
        return present | ~told, sure


def _numbers(letters: bytes) -> NDArray[np.int64]:
    """Of the three bytes from each place on, but for the last four places: [bytes - 4]."""
    fours = np.ndarray((len(letters) - 4,), "<u4", letters, strides=(1,))
    return ((fours * _FACTOR) >> np.uint32(32 - _BITS)).astype(np.int64)
