"""The command group, and the one place where errors become a line for a person."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import click

from splade_es.errors import Interrupted, SpladeEsError
from splade_es.version import __version__

#: Each in a module of its name, which is imported when somebody runs it.
COMMANDS = (
    "backfill", "bench", "dashboards", "delete", "demo", "diff", "encode", "evaluate", "expand",
    "explain", "export", "index", "info", "mine", "rollback", "score", "search", "serve", "train",
)  # fmt: skip


class _Commands(click.Group):
    """What a person may be told becomes one line on stderr and exit code 1; Ctrl-C is 130.

    Anything else is a bug of ours and keeps its traceback.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"splade_es.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        for name in ("elastic_transport", "opensearch", "urllib3"):
            # What they note of a lost connection is tried again, or ends in an error of ours.
            logging.getLogger(name).addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except Interrupted as error:
            click.echo(str(error), err=True)
            ctx.exit(130)
        except SpladeEsError as error:
            raise click.ClickException(str(error)) from error
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
