"""Indices behind an alias: built beside the one in use, checked, and swapped in one step.

The indices of an alias are called NAME-<date>-<n>. The earlier ones stay until somebody deletes
them, so that `rollback` can go back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from splade_es.engines.base import EngineIndex, IndexAlias
from splade_es.errors import EngineError, IndexMismatch, NotPublished


def alias_of(index: EngineIndex) -> IndexAlias:
    """The alias of a handle's name. Raises EngineError where the engine has none."""
    if index.alias is None:
        raise EngineError(f"The {index.engine.name} engine has no aliases", "Connect to a server.")
    return index.alias


def check_alias(alias: EngineIndex) -> None:
    """Raise EngineError unless a load may move an alias of this name.

    It may not if an index has the name, if the engine has no aliases, and, as IndexMismatch, if the
    alias points to an index that others made.
    """
    engine = alias.engine
    targets = alias_of(alias).targets()
    _check_own(alias, targets)
    if not targets and alias.exists():
        raise EngineError(
            f"{alias.name!r} is an index on {engine.name} at {engine.where}, not an alias",
            "Choose another name for the alias.",
        )


def _check_own(alias: EngineIndex, targets: Sequence[str]) -> None:
    """Raise IndexMismatch if others made one of the indices that an alias points to."""
    engine = alias.engine
    for target in targets:
        try:
            engine.index(target).check_own()
        except IndexMismatch as error:
            raise IndexMismatch(
                f"Others made the index {target!r} on {engine.name} at {engine.where}, and the "
                f"alias {alias.name!r} points to it",
                "Choose another alias, or move this one with the server's own API.",
            ) from error


def next_name(target: EngineIndex) -> str:
    """The name of a new index that is to stand behind, or to replace, another one."""
    today = datetime.now(timezone.utc).strftime("%Y%m%d")
    pattern = re.compile(re.escape(f"{target.name}-{today}-") + r"(\d+)")
    names = target.engine.indices()
    built = [int(found[1]) for name in names if (found := pattern.fullmatch(name))]
    number = max(built, default=0) + 1
    while target.engine.index(f"{target.name}-{today}-{number}").exists():  # not made here
        number += 1
    return f"{target.name}-{today}-{number}"


def publish(alias: EngineIndex, index: EngineIndex) -> list[str]:
    """Let the alias point to this index alone; the indices that it pointed to before.

    What was before is noted in the index first, so that `rollback` knows it after a crash too; a
    publication that is repeated keeps the note of the first. Raises NotPublished if another load
    moves the alias at the same time, and IndexMismatch if somebody has moved it to an index that
    others made.
    """
    names = alias_of(alias)
    present = names.targets()
    _check_own(alias, present)
    before = [name for name in present if name != index.name]
    assert index.settings is not None  # whoever has aliases has settings
    noted = index.settings.read_notes()
    if index.name in present and noted.get("alias") == alias.name:
        return list(noted["before"])  # a run before this one has published it
    check_not_replaced(alias, index)
    index.settings.write_notes({"alias": alias.name, "before": before})
    names.move(before, index.name)
    return before


def check_not_replaced(alias: EngineIndex, index: EngineIndex) -> None:
    """Raise NotPublished if an index was published earlier and is live no longer.

    A run that was killed after the swap must not bring its index back in front of a newer one, or
    of the one that `rollback` has brought back.
    """
    present = alias_of(alias).targets()
    assert index.settings is not None
    noted = index.settings.read_notes()
    if noted.get("alias") != alias.name or index.name in present:
        return
    if noted.get("withdrawn") or sorted(noted["before"]) != present:
        raise NotPublished(
            f"The index {index.name!r} was published before, and {alias.name!r} points to "
            f"{' and '.join(present) or 'nothing'} since",
            "Delete the journal, and load the corpus again if it is the later one.",
        )


@dataclass(frozen=True, slots=True)
class Rollback:
    """An alias that went back.

    Attributes
    ----------
    alias : str
        Its name.
    index : str
        The index that it points to now.
    previous : str
        The index that it pointed to before; it still exists.
    """

    alias: str
    index: str
    previous: str


def rollback(alias: EngineIndex) -> Rollback:
    """Let an alias point to the index that it pointed to before. Nothing is deleted.

    Raises EngineError if there is none, or the alias was not made here; and IndexMismatch if others
    have made an index of its name meanwhile.
    """
    engine = alias.engine
    names = alias_of(alias)
    present = names.targets()
    settings = engine.index(present[0]).settings if len(present) == 1 else None
    notes = settings.read_notes() if settings else {}
    if settings is None or notes.get("alias") != alias.name:
        what = f"points to {', '.join(present)}" if present else "is not an alias"
        raise EngineError(
            f"{alias.name!r} {what} on {engine.name} at {engine.where}",
            "Only an alias that a load with `alias` has made can go back.",
        )
    earlier = [name for name in notes["before"] if engine.index(name).exists()]
    if len(earlier) != 1:
        raise EngineError(
            f"There is no index of {alias.name!r} from before {present[0]}", "Index a corpus again."
        )
    engine.index(earlier[0]).check_own()
    settings.write_notes({"withdrawn": True})
    names.move(present, earlier[0])
    return Rollback(alias.name, earlier[0], present[0])
