"""Indices behind an alias: built beside the one in use, looked over, and swapped in at once.

The indices of an alias are called `NAME-<date>-<n>`; the earlier ones stay until somebody deletes
them, so that one can go back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import islice

from splade_es.engines.base import MAX_CLAUSES, Engine
from splade_es.errors import EngineError
from splade_es.records import Clause, id_hash

_SAMPLE = 32


class Sample:
    """Some documents of a load, drawn evenly, each with its last features."""

    def __init__(self) -> None:
        self.features: dict[str, dict[str, int]] = {}
        self._limit = 2**64 - 1

    def add(self, id: str, features: Mapping[str, int]) -> None:
        if id_hash(id) > self._limit:
            return
        self.features[id] = dict(islice(features.items(), MAX_CLAUSES))
        if len(self.features) > _SAMPLE:
            del self.features[max(self.features, key=id_hash)]
            self._limit = max(map(id_hash, self.features))


def next_name(engine: Engine, alias: str) -> str:
    """The name of a new index for an alias. Raises EngineError if an index is called so itself."""
    if not engine.alias(alias) and engine.exists(alias):
        raise EngineError(
            f"{alias!r} is an index on {engine.name} at {engine.where}, and no alias",
            "Choose another name for the alias, or delete that index.",
        )
    today = datetime.now(timezone.utc).strftime("%Y%m%d")
    pattern = re.compile(re.escape(f"{alias}-{today}-") + r"(\d+)")
    built = [int(found[1]) for name in engine.indices() if (found := pattern.fullmatch(name))]
    return f"{alias}-{today}-{max(built, default=0) + 1}"


def check_sample(engine: Engine, index: str, sample: Sample) -> None:
    """Raises EngineError unless the engine scores these documents as their integers say."""
    for id, features in sample.features.items():
        scores = engine.explain(index, [Clause(name, 1.0) for name in features], id)
        if scores != features:
            raise EngineError(
                f"The index {index!r} scores the document {id!r} with {sum(scores.values()):g}, "
                f"where its weights sum to {sum(features.values())}",
                "The alias was left where it is. Index the corpus again.",
            )


def publish(engine: Engine, alias: str, index: str) -> list[str]:
    """Let the alias stand for this index alone; the indices it stood for."""
    before = [name for name in engine.alias(alias) if name != index]
    engine.note(index, {"alias": alias, "before": before})
    engine.move_alias(alias, before, index)
    return before


def rollback(engine: Engine, alias: str) -> tuple[str, str]:
    """Let the alias stand for the index that it stood for before: (present, earlier).

    Raises EngineError if there is none, or the alias was not made here.
    """
    present = engine.alias(alias)
    notes = engine.noted(present[0]) if len(present) == 1 else {}
    if notes.get("alias") != alias:
        what = f"stands for {', '.join(present)}" if present else "is no alias"
        raise EngineError(
            f"{alias!r} {what} on {engine.name} at {engine.where}",
            "Only an alias that `splade-es index --alias` has made can go back.",
        )
    earlier = [name for name in notes["before"] if engine.exists(name)]
    if len(earlier) != 1:
        raise EngineError(
            f"There is no index of {alias!r} from before {present[0]}", "Index a corpus anew."
        )
    engine.move_alias(alias, present, earlier[0])
    return present[0], earlier[0]
