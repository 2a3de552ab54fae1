"""Progress records of long operations, and how they are followed.

Each operation has two forms. `…_steps` returns an iterator of these records, each a new, frozen one
with the counts so far; the plain form runs it to its end and returns the last record.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from splade_es.records import Rejected

_Record = TypeVar("_Record")


def follow(
    steps: Generator[_Record, None, None], progress: Callable[[_Record], object] | None
) -> _Record:
    """Run an operation to its end, call `progress` with each record, and return the last one."""
    if not (progress is None or callable(progress)):
        raise TypeError(f"progress must be callable, not {type(progress).__name__}")
    last: _Record | None = None
    for last in steps:
        if progress is not None:
            try:
                progress(last)
            except BaseException as error:
                # the operation ends by it as by an error of its own: Ctrl-C may come here, too
                steps.throw(error)
    assert last is not None  # each operation ends with a record of its result
    return last


@dataclass(frozen=True, slots=True)
class EncodeProgress:
    """Counts of encoding a corpus into a folder.

    Attributes
    ----------
    documents : int
        Documents in the folder, those of earlier runs included; 0 until it is complete.
    encoded : int
        Documents that this run encoded.
    rejected : int
        Lines that are no documents, or whose vectors are not finite.
    saturated : int
        Weights of this run that were too large for an integer and were clipped.
    truncated : int
        Documents of this run that were longer than the encoder reads, and were cut.
    max_length : int
        Tokens of a document that are encoded.
    seconds : float
        Duration of this run.
    first_rejected : Rejected or None
        The first rejected line.
    rejects : str
        File with all rejected lines and the reasons; written only if there are any.
    """

    documents: int = 0
    encoded: int = 0
    rejected: int = 0
    saturated: int = 0
    truncated: int = 0
    max_length: int = 0
    seconds: float = 0.0
    first_rejected: Rejected | None = None
    rejects: str = ""


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """documents: written so far; total: in the folder."""

    documents: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Counts of a load. At its end read = indexed + unchanged + rejected.

    Attributes
    ----------
    index : str
        The index that is loaded; behind an alias, the new one.
    read : int
        Documents and bad lines that were dealt with.
    indexed : int
        Documents that the engine acknowledged, by this run or an earlier one.
    unchanged : int
        Documents left out because the index has them with the same content.
    deleted : int
        Documents deleted because the corpus no longer has them.
    resumed : int
        Documents indexed or rejected by an earlier run. The other counts include them.
    replaced : int
        Indexed documents whose id existed before, in this corpus or in the index.
    empty : int
        Indexed documents without any feature: no SPLADE query finds them.
    rejected : int
        Lines that are no documents, and documents that the engine refused.
    saturated : int
        Weights that were too large for an integer and were clipped.
    truncated : int
        Indexed documents that were longer than the encoder reads, and were cut.
    max_length : int
        Tokens of a document that are encoded.
    seconds : float
        Duration of this run.
    first_rejected : Rejected or None
        The first rejected line.
    rejects : str
        File with all rejected lines and the reasons; written only if there are any.
    previous : tuple of str
        Indices that the alias pointed to before, where the load moved one.
    """

    index: str = ""
    read: int = 0
    indexed: int = 0
    unchanged: int = 0
    deleted: int = 0
    resumed: int = 0
    replaced: int = 0
    empty: int = 0
    rejected: int = 0
    saturated: int = 0
    truncated: int = 0
    max_length: int = 0
    seconds: float = 0.0
    first_rejected: Rejected | None = None
    rejects: str = ""
    previous: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """Counts of a backfill.

    Attributes
    ----------
    index : str
        The index.
    updated : int
        Documents that got features.
    unchanged : int
        Documents that have the features of their text already.
    without : int
        Documents without text in the fields, and without features of an earlier text.
    conflicts : int
        Updates that were refused because another writer had changed the document. Such a document
        is read and encoded again.
    rejected : int
        Documents that the engine refused, or whose vectors are not finite.
    truncated : int
        Updated documents that were longer than the encoder reads, and were cut.
    max_length : int
        Tokens of a document that are encoded.
    seconds : float
        Duration of this run.
    first_rejected : Rejected or None
        The first rejected document.
    rejects : str
        File with all rejected documents and the reasons; written only if there are any.
    """

    index: str = ""
    updated: int = 0
    unchanged: int = 0
    without: int = 0
    conflicts: int = 0
    rejected: int = 0
    truncated: int = 0
    max_length: int = 0
    seconds: float = 0.0
    first_rejected: Rejected | None = None
    rejects: str = ""


@dataclass(frozen=True, slots=True)
class MineProgress:
    """Counts of mining hard negatives.

    Attributes
    ----------
    total : int
        Different queries of the input.
    queries : int
        Queries searched so far.
    lines : int
        Training lines written.
    negatives : int
        Negatives in all these lines together.
    bare : int
        Lines without any negative.
    """

    total: int = 0
    queries: int = 0
    lines: int = 0
    negatives: int = 0
    bare: int = 0


@dataclass(frozen=True, slots=True)
class ScoreProgress:
    """Counts of scoring training lines with teachers.

    Attributes
    ----------
    total : int
        Lines of the input.
    lines : int
        Lines scored so far.
    pairs : int
        Scores in these lines.
    bare : int
        Lines without negatives.
    seconds : float
        Duration so far.
    """

    total: int = 0
    lines: int = 0
    pairs: int = 0
    bare: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """One log line of a training run: means over the steps since the line before.

    Attributes
    ----------
    step, steps : int
        Optimizer steps so far, and of the whole run.
    loss, ranking_loss : float
        The whole loss, and its ranking part.
    query_terms, doc_terms : float
        Active terms of a query and of a document.
    query_lambda, doc_lambda : float
        Weights of the regularizers in this step.
    lr : float
        Learning rate of the encoder.
    steps_per_second : float
        Rate since the line before.
    warnings : tuple of str
        Signs that the run goes wrong, each with its remedy.
    dev : mapping of str to float
        Measures on the dev set; empty between evaluations.
    best : bool
        Whether the output directory holds the model of this step.
    output : str
        The output directory.
    """

    step: int
    steps: int
    loss: float
    ranking_loss: float
    query_terms: float
    doc_terms: float
    query_lambda: float
    doc_lambda: float
    lr: float
    steps_per_second: float
    warnings: tuple[str, ...]
    dev: Mapping[str, float]
    best: bool
    output: str
