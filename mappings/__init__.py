"""The bodies that splade-es sends to a server, as JSON that one can also paste into a console."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from splade_es.errors import SettingsError
from splade_es.fields import PREFIX
from splade_es.index_meta import IndexMeta
from splade_es.records import Source


@dataclass(frozen=True, slots=True)
class IndexDesign:
    """What the user decides of a new index on a server.

    Raises SettingsError for a mapping of what splade-es fills itself.

    Attributes
    ----------
    source : {"full", "no-vectors"}
        See `splade_es.records.Source`.
    shards, replicas : int, optional
        Numbers of primary shards, and of copies of each.
    analyzer : str, optional
        Of title and text: the name of one that the server has, or that `settings` define.
    mapping : mapping
        Laid over the mapping of `index.json`.
    settings : mapping
        Laid over its settings; the names may be dotted, and without "index.".
    """

    source: Source = "full"
    shards: int | None = None
    replicas: int | None = None
    analyzer: str | None = None
    mapping: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        properties = self.mapping.get("properties", {})
        if not isinstance(properties, Mapping):
            raise SettingsError("`mapping` has properties that are no object")
        own = [name for name in properties if str(name).startswith(PREFIX)]
        if own := [*own, *(self.mapping.keys() & {"_source", "_meta"})]:
            raise SettingsError(
                f"`mapping` changes {own[0]!r}, which splade-es fills", "Leave it out."
            )
        if self.settings:
            _nested(self.settings)
        numbers = (self.shards, 1), (self.replicas, 0)
        if any(number is not None and number < least for number, least in numbers):
            raise SettingsError("An index has one or more `shards`, and no negative `replicas`")


def index_body(
    meta: IndexMeta,
    features: Mapping[str, Any],
    design: IndexDesign = IndexDesign(),
) -> dict[str, Any]:
    """`index.json` for one model. features: the mapping of the field that holds the vectors."""
    body: dict[str, Any] = json.loads(files(__name__).joinpath("index.json").read_text("utf-8"))
    mappings, settings = body["mappings"], body["settings"]["index"]
    mappings["_meta"]["splade_es"] = meta.to_dict()
    properties = mappings["properties"]
    properties["splade"] = dict(features)
    if design.source == "no-vectors":
        # The hash goes with the vector: an update loses both, and the next load encodes such a
        # document again. So it is stored beside `_source`.
        mappings["_source"] = {"excludes": ["splade", "splade_view", "splade_hash"]}
        properties["splade_hash"]["store"] = True
    if design.analyzer:
        for name in ("title", "text"):
            properties[name]["analyzer"] = design.analyzer
    _lay_over(mappings, design.mapping)
    chosen = {"number_of_shards": design.shards, "number_of_replicas": design.replicas}
    theirs = _nested(design.settings)
    _lay_over(theirs, {name: number for name, number in chosen.items() if number is not None})
    if "number_of_replicas" in theirs:
        del settings["auto_expand_replicas"]  # by which the server would choose itself
    _lay_over(settings, theirs)
    return body


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names in their places, without "index". Raises SettingsError."""
    nested = _by_parts(settings)
    inside = nested.pop("index", {})
    if isinstance(inside, dict):
        _lay_over(inside, nested)
        if isinstance(inside.get("mapping", {}), dict):
            return inside
    raise SettingsError("`settings` has an `index`, or in it a `mapping`, that is no object")


def _by_parts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings, each dotted name as objects in each other."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _by_parts(value) if isinstance(value, Mapping) else value
        for part in reversed(str(name).split(".")):
            inner = {part: inner}
        _lay_over(nested, inner)
    return nested


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for name, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(name), dict):
            _lay_over(below[name], value)
        else:
            below[name] = value
