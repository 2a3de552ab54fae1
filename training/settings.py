"""How a setting of a training run is declared: its help, its section, and the values it may have.

`config.TrainConfig` is made of such declarations. Its checks, its documentation, the options of
`splade-es train` and the keys of a configuration file all read them, so that each stands once.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import textwrap
from typing import Any, TypeAlias, TypeVar, get_type_hints

from splade_es.arguments import check_type
from splade_es.errors import TrainingError

StrPath: TypeAlias = str | os.PathLike[str]
_Config = TypeVar("_Config")

MODEL, DATA, SCHEDULE, RANKING, SPARSITY, RUN = SECTIONS = (
    "Model", "Data", "Schedule", "Ranking loss", "Sparsity", "Run",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Range:
    """Finite numbers from `low` on, below `high`; `above` excludes `low` itself.

    words: how an error message continues after "must be".
    """

    words: str
    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, number: float) -> bool:
        return (self.low < number if self.above else self.low <= number) and number < self.high


COUNT = Range("at least 1", 1)
POSITIVE = Range("above 0", 0, above=True)
NOT_NEGATIVE = Range("0 or more", 0)


def describe(
    section: str,
    help: str,
    range: Range | None = None,
    *,
    choices: tuple[str, ...] = (),
    yaml_only: bool = False,
) -> dict[str, Any]:
    """The metadata of a setting.

    yaml_only: set in a configuration file or in Python, but not an option of the command line.
    """
    assert section in SECTIONS
    return {
        "section": section, "help": help, "range": range, "choices": choices,
        "yaml_only": yaml_only,
    }  # fmt: skip


def setting(
    default: Any,
    section: str,
    help: str,
    range: Range | None = None,
    *,
    choices: tuple[str, ...] = (),
    yaml_only: bool = False,
) -> Any:
    """A field of a dataclass with a default and the metadata of `describe`."""
    metadata = describe(section, help, range, choices=choices, yaml_only=yaml_only)
    return dataclasses.field(default=default, metadata=metadata)


def check_settings(config: Any) -> None:
    """Check each setting of a dataclass by itself; paths become strings.

    Raises TypeError for a value of a wrong type, TrainingError for one that is out of range.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        range, choices = field.metadata["range"], field.metadata["choices"]
        if choices and isinstance(value, str) and value not in choices:
            raise TrainingError(f"`{name}` must be one of {', '.join(choices)}, not {value}")
        check_type(name, value, hints[name])
        if isinstance(value, os.PathLike):
            object.__setattr__(config, name, os.fspath(value))  # the dataclass is frozen
        if range is not None and value is not None and value not in range:
            raise TrainingError(f"`{name}` must be {range.words}, not {value}")


def document(config: type[_Config]) -> type[_Config]:
    """Add all settings to the docstring of a dataclass, as its numpy-style section "Attributes"."""
    lines = [inspect.cleandoc(config.__doc__ or ""), "", "Attributes", "----------"]
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        choices, range = field.metadata["choices"], field.metadata["range"]
        kind = str(field.type).removesuffix(" | None").replace("StrPath", "str or path")
        if choices:
            kind = "{" + ", ".join(f'"{choice}"' for choice in choices) + "}"
        if field.default is None:
            kind += ", optional"
        elif field.default is not dataclasses.MISSING:
            kind += f", default {field.default!r}"
        text = field.metadata["help"] + (f" It must be {range.words}." if range else "")
        lines.append(f"{field.name} : {kind}")
        lines += [f"    {line}" for line in textwrap.wrap(text, 92)]
    config.__doc__ = "\n".join(lines)
    return config
