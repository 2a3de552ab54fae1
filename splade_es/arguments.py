"""A wrong type is an error at the call, with the name of the argument."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from splade_es.errors import SettingsError

_Function = TypeVar("_Function", bound=Callable[..., Any])


def checked(function: _Function) -> _Function:
    """Check the arguments of each call against the annotations that are plain enough to check.

    Raises TypeError at the call: "k must be int, not str"; and SettingsError for a word that is
    none of those to choose from. Protocols and type variables are left to type checkers.
    """
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> dict[str, Any]:
        annotations = {k: v for k, v in function.__annotations__.items() if k != "return"}
        holder = types.SimpleNamespace(__annotations__=annotations)
        return get_type_hints(holder, function.__globals__)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
                check_type(name, value, hints().get(name, Any))
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def check_settings(settings: Mapping[str, Any], kind: type, function: str) -> None:
    """Check keyword arguments against a TypedDict.

    Raises TypeError for an unknown name, with the nearest known one, and else as `check_type`.
    """
    hints = get_type_hints(kind)
    for name, value in settings.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, 1)
            raise TypeError(
                f"{function}() has no argument {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
        check_type(name, value, hints[name])


def check_type(name: str, value: object, hint: Any) -> None:
    """Raise TypeError unless a value is of a type, as far as the type can be checked.

    Raises SettingsError for a word that is none of those that a Literal names.
    """
    if _fits(value, hint):
        return
    choices = [word for part in (hint, *get_args(hint)) if get_origin(part) is Literal
               for word in get_args(part)]  # fmt: skip
    if choices and isinstance(value, str):
        raise SettingsError(f"`{name}` is {value!r}", f"Choose one of {', '.join(choices)}.")
    raise TypeError(f"{name} must be {_words(hint)}, not {type(value).__name__}")


def _fits(value: object, hint: Any) -> bool:
    if hint is Any or isinstance(hint, (str, TypeVar)):
        return True
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    parts = hint
    if origin is not None:
        hint = origin
    if hint is None or hint is type(None):
        return value is None
    if not isinstance(hint, type) or getattr(hint, "_is_protocol", False):
        return True
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, (int, float))
    if hint is str:
        return isinstance(value, str)
    if hint in (Iterable, Sequence) and isinstance(value, (str, bytes)):
        return False  # one text where several are wanted
    if origin is Sequence and get_args(parts) == (str,):
        return isinstance(value, Sequence) and all(isinstance(item, str) for item in value)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in get_args(hint)))
    if origin is Literal:
        return "str"
    if origin is Sequence and get_args(hint) == (str,):
        return "Sequence of str"
    if hint is None or hint is type(None):
        return "None"
    if hint is os.PathLike or origin is os.PathLike:
        return "a path"
    return str(getattr(origin or hint, "__name__", hint))
