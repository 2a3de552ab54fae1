"""Indices behind an alias: built beside the one in use, checked, and swapped in one step.

The indices of an alias are called NAME-<date>-<n>. The earlier ones stay until somebody deletes
them, so that `rollback` can go back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from splade_es.engines.base import EngineIndex, IndexAlias
from splade_es.errors import EngineError
from splade_es.features import feature_name
from splade_es.limits import MAX_CLAUSES
from splade_es.records import Clause, Quantized, id_hash

_SAMPLE = 32


class Sample:
    """Some documents of a load, drawn evenly, each with its last vector."""

    def __init__(self) -> None:
        self.vectors: dict[str, Quantized] = {}
        self._limit = 2**64 - 1

    def add(self, id: str, vector: Quantized) -> None:
        """Take a document, or leave it: the ids with the smallest hashes stay."""
        if id_hash(id) > self._limit:
            return
        # copied, because a vector is a part of arrays of thousands of documents
        self.vectors[id] = Quantized(vector.ids.copy(), vector.values.copy(), vector.saturated)
        if len(self.vectors) > _SAMPLE:
            del self.vectors[max(self.vectors, key=id_hash)]
            self._limit = max(map(id_hash, self.vectors))


def alias_of(index: EngineIndex) -> IndexAlias:
    """The alias of a handle's name. Raises EngineError where the engine has none."""
    if index.alias is None:
        raise EngineError(f"The {index.engine.name} engine has no aliases", "Connect to a server.")
    return index.alias


def next_name(alias: EngineIndex) -> str:
    """The name of a new index for an alias. Raises EngineError if an index has the alias's name."""
    engine = alias.engine
    if not alias_of(alias).targets() and alias.exists():
        raise EngineError(
            f"{alias.name!r} is an index on {engine.name} at {engine.where}, not an alias",
            "Choose another name for the alias, or delete that index.",
        )
    today = datetime.now(timezone.utc).strftime("%Y%m%d")
    pattern = re.compile(re.escape(f"{alias.name}-{today}-") + r"(\d+)")
    built = [int(found[1]) for name in engine.indices() if (found := pattern.fullmatch(name))]
    return f"{alias.name}-{today}-{max(built, default=0) + 1}"


def check_sample(index: EngineIndex, sample: Sample, vocabulary: list[str]) -> None:
    """Raise EngineError unless the engine scores these documents as their integers say.

    vocabulary: the token of each id.
    """
    for id, vector in sample.vectors.items():
        values = vector.values.tolist()
        order = sorted(range(len(values)), key=lambda n: -values[n])[:MAX_CLAUSES]
        features = {feature_name(vocabulary[vector.ids[n]]): values[n] for n in order}
        scores = index.explain([Clause(name, 1.0) for name in features], id)
        if scores != features:
            raise EngineError(
                f"The index {index.name!r} scores the document {id!r} with "
                f"{sum(scores.values()):g}, where its weights sum to {sum(features.values())}",
                "The alias was not moved. Index the corpus again.",
            )


def publish(alias: EngineIndex, index: EngineIndex) -> list[str]:
    """Let the alias point to this index alone; the indices that it pointed to before."""
    names = alias_of(alias)
    before = [name for name in names.targets() if name != index.name]
    assert index.settings is not None  # whoever has aliases has settings
    index.settings.write_notes({"alias": alias.name, "before": before})
    names.move(before, index.name)
    return before


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

    Raises EngineError if there is none, or the alias was not made here.
    """
    engine = alias.engine
    names = alias_of(alias)
    present = names.targets()
    notes = {}
    if len(present) == 1 and (settings := engine.index(present[0]).settings):
        notes = settings.read_notes()
    if notes.get("alias") != alias.name:
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
    names.move(present, earlier[0])
    return Rollback(alias.name, earlier[0], present[0])
