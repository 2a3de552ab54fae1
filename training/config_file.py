"""Settings of a training run from a YAML file, or from one of the recipes of the package."""

from __future__ import annotations

import dataclasses
import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

from splade_es.errors import TrainingError
from splade_es.training.config import TrainConfig

# Bytes of a file of settings.
_LONGEST = 100_000


def recipes() -> dict[str, str]:
    """Name -> path of each recipe of the package."""
    folder = files("splade_es.training") / "recipes"
    return {Path(str(f)).stem: str(f) for f in folder.iterdir() if str(f).endswith(".yaml")}


def read_config(path: str) -> dict[str, Any]:
    """Keyword arguments of `TrainConfig` from a YAML file, or from the recipe of that name.

    Raises TrainingError for an unknown setting, with the nearest known one, or for a wrong type.
    """
    import yaml

    if not Path(path).exists():
        path = recipes().get(path, path)
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise TrainingError(
                f"{path}: more than {_LONGEST:,} bytes, and settings take a thousand",
                "Give a file of settings.",
            )
        _check_flat(path, text)
        values = yaml.safe_load(text) or {}
    except OSError as error:
        raise TrainingError(
            f"{path}: {error.strerror}",
            f"Give a YAML file, or a recipe: {', '.join(sorted(recipes()))}.",
        ) from error
    # what yaml makes of its words, too: an invalid date, a number of a thousand digits
    except (yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise TrainingError(
            f"{path}: not YAML ({error})", "Write lines of a name, a colon and a value."
        ) from error
    if not isinstance(values, dict):
        raise TrainingError(
            f"{path}: there are no settings in it", "Write lines of a name, a colon and a value."
        )
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, 1)
            raise TrainingError(
                f"{path}: there is no setting {name!r}",
                f"Did you mean {near[0]}?" if near else f"There are: {', '.join(fields)}.",
            )
        values[name] = _convert(path, value, fields[name])
    return values


def _check_flat(path: str, text: bytes) -> None:
    """Raise TrainingError for an alias, or a value in a value, which can stand for any size."""
    import yaml

    starts = (
        yaml.BlockMappingStartToken,
        yaml.BlockSequenceStartToken,
        yaml.FlowMappingStartToken,
        yaml.FlowSequenceStartToken,
    )
    ends = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
    depth = 0
    for token in yaml.scan(text):
        depth += isinstance(token, starts) - isinstance(token, ends)
        if depth > 1 or isinstance(token, yaml.AliasToken):
            raise TrainingError(
                f"{path}:{token.start_mark.line + 1}: a list, a mapping or an alias as a value",
                "Write a number, a text, true or false.",
            )


def _shown(value: Any) -> str:
    try:
        return repr(value)[:100]
    except ValueError:  # an integer that Python does not turn into so many digits
        return "a number of many digits"


def _convert(path: str, value: Any, field: dataclasses.Field[Any]) -> Any:
    """The value in the type of its setting: YAML reads 1e-4, without a dot, as text."""
    kind = {"int": int, "float": float, "bool": bool}.get(
        str(field.type).removesuffix(" | None"), str
    )
    try:
        if value is None and field.default is None:
            return None
        if isinstance(value, bool) != (kind is bool):  # to Python, bool is an int
            raise ValueError
        if kind is int and float(value) != int(float(value)):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        wanted = {int: "a number (int)", float: "a number (float)", bool: "true or false"}
        raise TrainingError(
            f"{path}: {field.name} must be {wanted.get(kind, 'text')}, not {_shown(value)}"
        ) from None
