"""Old names of options and arguments: they still work, and no help shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _OldName(click.Parameter):
    """Hands its value to the option that has replaced it, before that option is read."""

    def __init__(
        self,
        *args: Any,
        stands_for: str,
        words: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(*args, **{**attributes, "is_eager": True, "expose_value": False})
        self._stands_for = stands_for
        self._words = words or {}

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Move a value that was given to the option that it stands for."""
        given = opts.get(str(self.name))
        if isinstance(given, str):
            if self._stands_for in opts:
                (option,) = (p for p in ctx.command.params if p.name == self._stands_for)
                old = self.make_metavar(ctx) if isinstance(self, click.Argument) else self.opts[0]
                raise click.UsageError(f"{old} is the old name of {option.opts[0]}: give one.", ctx)
            cast(dict[str, Any], opts)[self._stands_for] = self._words.get(given, given)
        return super().handle_parse_result(ctx, opts, args)


class _OldOption(_OldName, click.Option):
    pass


class _OldArgument(_OldName, click.Argument):
    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        return []


def old_option(
    flag: str, stands_for: str, words: Mapping[str, str] | None = None
) -> Callable[[_Command], _Command]:
    """An old flag of an option.

    stands_for: Python name of the option; words: old value -> new one, where values changed, too.
    """
    return click.option(
        flag,
        f"old_{flag.strip('-').replace('-', '_')}",
        cls=_OldOption,
        hidden=True,
        stands_for=stands_for,
        words=words,
    )


def old_argument(metavar: str, stands_for: str) -> Callable[[_Command], _Command]:
    """An argument that is an option now. stands_for: Python name of the option."""
    return click.argument(
        f"old_{metavar.lower()}",
        cls=_OldArgument,
        metavar=metavar,
        required=False,
        stands_for=stands_for,
    )
