"""The gate before what cannot be undone: a swap, a replacement, a deletion.

A load that passes it has rejected next to nothing, has indexed something, has terms in most of its
documents, and has not lost many documents against what it replaces.
"""

from __future__ import annotations

from splade_es.errors import NotPublished
from splade_es.progress import LoadProgress


def check_counts(
    progress: LoadProgress,
    documents: int,
    before: int,
    *,
    target: str,
    max_rejected: int,
    max_empty: float,
    max_shrink: float,
) -> None:
    """Raise NotPublished unless a new index is fit to replace what its name stands for.

    documents: of the new index; before: of the present one. The other parameters are settings of a
    load.
    """
    reason = ""
    if progress.rejected > max_rejected:
        first = progress.first_rejected
        where = f", the first at {first.place}: {first.reason}" if first else ""
        reason = (
            f"{progress.rejected:,} of {progress.read:,} lines were rejected{where}; all are in "
            f"{progress.rejects}, and `max_rejected` is {max_rejected:,}"
        )
    elif not documents:
        reason = "it has no documents"
    elif progress.empty > max_empty * documents:
        reason = (
            f"{progress.empty:,} of its {documents:,} documents have no term; "
            f"`max_empty` is {max_empty:g}"
        )
    elif documents < (1 - max_shrink) * before:
        reason = (
            f"it has {documents:,} documents instead of {before:,}; `max_shrink` is {max_shrink:g}"
        )
    if reason:
        raise NotPublished(
            f"{target!r} stays as it is, and the new index {progress.index!r} is kept beside it: "
            f"{reason}",
            "Mend the corpus, or raise that setting to publish the new index after all.",
        )


def check_deletion(missing: int, documents: int, *, index: str, max_shrink: float) -> None:
    """Raise NotPublished if a corpus lacks so many documents that it may be the wrong one."""
    if missing > max_shrink * documents:
        raise NotPublished(
            f"Nothing was deleted: the corpus lacks {missing:,} of the {documents:,} documents of "
            f"{index!r}; `max_shrink` is {max_shrink:g}",
            "Check the corpus, or raise that setting to delete them after all.",
        )
