"""Writes the command reference: `python -m splade_es.cli.reference > cli/README.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from splade_es.cli.main import main

_HEAD = """\
# The commands

This room holds the command `splade-es`. Each command is one file: options, one call of the library,
and output. Results go to standard output and everything else to standard error; with `--json`,
standard output has only lines of JSON. The exit code is 0 for success, 1 for an error, 2 for wrong
usage or an invalid setting, and 130 after Ctrl-C.

Begin reading at `main.py`: it has the list of commands, and the one place where an error of the
library becomes a line for a person, which names settings as the command's options. Then read
`search.py`, a typical command. `options.py` has the options that several commands share,
`old_names.py` the mechanism by which names of earlier versions still work, and `demo_data.py` makes
the data of `splade-es demo`.

Commands may be added and changed here, but what they do belongs in the library. They may import
all of the library, and the library imports none of them. At the top of a file stands only what is
quick to import, so that `splade-es --help` is quick; everything else is imported in the function of
the command.

Everything below is written by `python -m splade_es.cli.reference > cli/README.md`.
"""
_WIDTH = 100


def render() -> str:
    """The whole of `cli/README.md`."""
    sections = [_HEAD]
    for ctx in contexts():
        sections.append(f"## {ctx.command_path}\n\n```\n{_help(ctx)}\n```\n")
    return "\n".join(sections)


def contexts(ctx: click.Context | None = None) -> Iterator[click.Context]:
    """A command, by default `splade-es`, and all below it, in the order of the help."""
    ctx = ctx or _context(main, "splade-es", None)
    yield ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            assert command is not None
            yield from contexts(_context(command, name, ctx))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, parent, name, **command.context_settings)


def _help(ctx: click.Context) -> str:
    formatter = click.HelpFormatter(width=_WIDTH)  # whatever the width of the terminal
    ctx.command.format_help(ctx, formatter)
    lines = formatter.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()


if __name__ == "__main__":
    click.echo(render(), nl=False)
