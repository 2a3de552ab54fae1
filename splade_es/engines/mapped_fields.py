"""The fields of an index that others made, as its mapping describes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# Types of fields whose value in a document is text.
_TEXTS = frozenset({
    "text", "match_only_text", "pattern_text", "search_as_you_type", "annotated_text",
    "semantic_text", "semantic", "keyword", "constant_keyword", "counted_keyword",
    "icu_collation_keyword", "wildcard",
})  # fmt: skip


class MappedField(NamedTuple):
    """One field of a mapping.

    type: "object" and "nested" hold others. nested: path of the nested objects it is in, or "".
    of: the field whose value it shows, where it has none of its own: an alias, or one of the
    `fields` of another.
    """

    type: str
    nested: str = ""
    of: str = ""

    @property
    def is_text(self) -> bool:
        """Whether a document has text in this field."""
        return self.type in _TEXTS and not self.of


def mapped_fields(mapping: Mapping[str, Any]) -> dict[str, MappedField]:
    """All fields of a mapping by their whole names, as "outer.inner"."""
    return dict(_fields(mapping.get("properties", {}), "", ""))


def _fields(
    properties: Mapping[str, Any], outer: str, nested: str
) -> Iterator[tuple[str, MappedField]]:
    for inner, field in properties.items():
        name, kind = outer + inner, field.get("type", "object")
        yield name, MappedField(kind, nested, field.get("path", "") if kind == "alias" else "")
        for part, as_part in field.get("fields", {}).items():
            yield f"{name}.{part}", MappedField(as_part["type"], nested, name)
        path = name if kind == "nested" else nested
        yield from _fields(field.get("properties", {}), f"{name}.", path)


def not_in_source(mapping: Mapping[str, Any]) -> list[str]:
    """The fields that an index has and its `_source` has not, so that an update loses them."""
    source = mapping.get("_source", {})
    kept, dropped = source.get("includes", []), source.get("excludes", [])
    has_none = source.get("enabled") is False or source.get("mode") == "disabled"
    return [
        name
        for name, field in mapped_fields(mapping).items()
        if field.type not in ("object", "nested", "passthrough") and not field.of
        if has_none or (kept and not _matches(name, kept)) or _matches(name, dropped)
    ]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern names a field or an object it is in. `*` stands for any characters."""
    return any(
        re.fullmatch(re.escape(pattern).replace(r"\*", ".*") + r"(\..*)?", name)
        for pattern in patterns
    )
