"""The command group, and the one place where errors become a line for a person."""

from __future__ import annotations

import logging
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from splade_es import __version__
from splade_es.cli.output import name_options, printable
from splade_es.cli.streams import standard_streams
from splade_es.errors import Interrupted, SettingsError, SpladeEsError

#: Each in a module of its name, which is imported when it is needed.
COMMANDS = (
    "backfill", "bench", "dashboards", "delete", "demo", "diff", "encode", "evaluate", "expand",
    "explain", "export", "index", "info", "mine", "rollback", "score", "search", "serve", "train",
)  # fmt: skip


class _Commands(click.Group):
    """Turns the errors of the library into one line on stderr and an exit code.

    It is 1; for invalid settings 2, as for wrong usage; and 130 after Ctrl-C. Any other exception
    is a bug in splade-es and keeps its traceback.
    """

    def main(self, *args: Any, **settings: Any) -> Any:
        with standard_streams(), warnings.catch_warnings():
            if not sys.warnoptions:  # what a library warns of is said in words of our own, or none
                warnings.simplefilter("ignore")
            return super().main(*args, **settings)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"splade_es.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of a command line. It is kept, because errors name its options."""
        resolved = super().resolve_command(ctx, args)
        for name in args:
            command = ctx.command
            inner = command.get_command(ctx, name) if isinstance(command, click.Group) else None
            if inner is None:
                break
            ctx = click.Context(inner, parent=ctx, info_name=name)
        ctx.meta[__name__] = ctx
        return resolved

    def invoke(self, ctx: click.Context) -> Any:
        for name in ("elastic_transport", "opensearch", "urllib3"):
            # the connections that they report as lost are tried again, or end in an error of ours
            logging.getLogger(name).addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except SpladeEsError as error:
            running: click.Context = ctx.meta[__name__]
            said = printable(name_options(str(error), running.command))
            if isinstance(error, Interrupted):
                click.echo(said, err=True)
                ctx.exit(130)
            if isinstance(error, SettingsError):
                raise click.UsageError(said, running) from error
            raise click.ClickException(said) from error
        except (KeyboardInterrupt, click.Abort):  # Abort: the same while a question is asked
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="splade-es")
def main() -> None:
    """Learned sparse retrieval on Elasticsearch and OpenSearch.

    \b
    Train a SPLADE model, index a corpus with it, search, and measure. Without --url or
    SPLADE_ES_URL a local engine is used, so nothing needs to be installed to try it.

    \b
    Example:
      splade-es demo
      splade-es train pairs.jsonl --model distilbert-base-uncased --output model
      splade-es index corpus.jsonl --model model --index articles --url http://localhost:9200
      splade-es search "heart attack" --index articles --url http://localhost:9200
    """
