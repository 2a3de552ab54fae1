"""Scores of teachers for training lines, which the losses margin_mse and kl learn from."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from splade_es.data.files import atomic_file, check_not_input
from splade_es.errors import SettingsError, TrainingError
from splade_es.progress import ScoreProgress
from splade_es.training.teachers import load_teacher
from splade_es.training.training_lines import check_input, is_text, read_rows

#: The mean of several teachers is multiplied by this, as in the OpenSearch sample for tuning sparse
#: models: it turns 0 to 1 into a range like that of the scores of a SPLADE model.
SCALE = 30.0


class _Line(NamedTuple):
    """A training line. pairs: the query with the positive, then with each negative."""

    place: str
    row: dict[str, Any]
    pairs: list[tuple[str, str]]


def score_lines(
    path: str,
    teachers: Sequence[str],
    output: str,
    scale: float | None = None,
    *,
    window_pairs: int = 1024,
) -> Generator[ScoreProgress, None, None]:
    """Write training lines with "scores" to a file, that of the positive first; yields counts.

    The scores of one teacher are written as they are. Those of several teachers have different
    ranges, so those of each are brought to 0..1 within a line, and their mean is multiplied by
    `scale`. Other keys of a line stay.

    Parameters
    ----------
    path : str
        JSON Lines with "query", "positive" and "negatives", plain or compressed.
    teachers : sequence of str
        Directories or hub names.
    output : str
        The file to write.
    scale : float, optional
        Range of the scores of several teachers; `SCALE` by default.
    window_pairs : int
        Pairs that are scored at once: sorted by length, they make many batches with little padding.

    Raises
    ------
    SettingsError, TrainingError
        At the call: an argument is invalid.
    TrainingError, CorpusError
        While it runs, before a teacher is loaded: a line cannot be scored.
    TrainingError, ModelError
        While it runs: a teacher cannot be loaded, or gives a score that is not finite.
    """
    if path == "-":
        raise TrainingError("Standard input cannot be read twice", "Give a file.")
    if not teachers:
        raise SettingsError("`teachers` is empty", "Name at least one.")
    if scale is not None and len(teachers) == 1:
        raise SettingsError(
            "`teacher_scale` is for several teachers; the scores of one are written as they are",
            "Leave it out.",
        )
    if scale is not None and not 0 < scale < float("inf"):
        raise SettingsError(f"`teacher_scale` is {scale}", "Set it above 0.")
    check_input(path)
    check_not_input("output", output, path, *teachers)
    return _score(path, teachers, output, SCALE if scale is None else scale, window_pairs)


def _score(
    path: str, teachers: Sequence[str], output: str, scale: float, window_pairs: int
) -> Generator[ScoreProgress, None, None]:
    started = time.perf_counter()
    with atomic_file(output, TrainingError) as file:
        progress = ScoreProgress(total=sum(1 for _ in _read(path)))
        if not progress.total:
            raise TrainingError(
                f"{path}: there are no lines", 'Write lines with "query" and "positive".'
            )
        models = [load_teacher(name) for name in teachers]
        for window in _windows(_read(path), window_pairs):
            pairs = [pair for line in window for pair in line.pairs]
            table = np.array([model.score(pairs) for model in models])  # [teachers, pairs]
            for line in window:
                scores, table = np.split(table, [len(line.pairs)], axis=1)  # of this line, the rest
                for model, numbers in zip(models, scores, strict=True):
                    if not np.isfinite(numbers).all():
                        raise TrainingError(
                            f"{line.place}: the teacher {model.name} gives a score that is not "
                            "finite",
                            "Choose another teacher, or remove the line.",
                        )
                values = scores[0] if len(models) == 1 else scale * _normalized(scores).mean(axis=0)
                row = {**line.row, "scores": [round(value, 6) for value in values.tolist()]}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            progress = replace(
                progress,
                lines=progress.lines + len(window),
                pairs=progress.pairs + len(pairs),
                bare=progress.bare + sum(len(line.pairs) == 1 for line in window),
                seconds=time.perf_counter() - started,
            )
            yield progress


def _normalized(table: Any) -> Any:
    """Bring each row of [teachers, texts] to 0..1; a row of equal scores becomes 0."""
    low, high = table.min(axis=1, keepdims=True), table.max(axis=1, keepdims=True)
    return (table - low) / np.where(high > low, high - low, 1.0)


def _read(path: str) -> Iterator[_Line]:
    for place, row in read_rows(path):
        negatives = row.get("negatives", [row["negative"]] if "negative" in row else []) or []
        if not (isinstance(negatives, list) and all(map(is_text, negatives))):
            raise TrainingError(
                f'{place}: "negatives" must be a list of texts that are not empty',
                "Correct or remove the line.",
            )
        texts = [row["positive"], *negatives]
        yield _Line(place, row, [(row["query"], text) for text in texts])


def _windows(lines: Iterator[_Line], pairs: int) -> Iterator[list[_Line]]:
    """Lines in parts of at least so many pairs."""
    window: list[_Line] = []
    size = 0
    for line in lines:
        window.append(line)
        size += len(line.pairs)
        if size >= pairs:
            yield window
            window, size = [], 0
    if window:
        yield window
