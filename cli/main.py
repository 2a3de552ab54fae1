"""The command group, and the one place where errors become a line for a person."""

from __future__ import annotations

from typing import Any

import click

from splade_es import __version__
from splade_es.cli.bench import bench
from splade_es.cli.delete import delete
from splade_es.cli.demo import demo
from splade_es.cli.encode import encode
from splade_es.cli.evaluate import evaluate
from splade_es.cli.expand import expand
from splade_es.cli.export import export
from splade_es.cli.index import index
from splade_es.cli.info import info
from splade_es.cli.mine import mine
from splade_es.cli.score import score
from splade_es.cli.search import search
from splade_es.cli.train import train
from splade_es.errors import Interrupted, SpladeEsError


class _Boundary(click.Group):
    """What a person may be told becomes one line on stderr and exit code 1; Ctrl-C is 130.

    Anything else is a bug of ours and keeps its traceback.
    """

    def invoke(self, ctx: click.Context) -> Any:
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


@click.group(cls=_Boundary, context_settings={"help_option_names": ["-h", "--help"]})
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


for command in (
    train, index, search, evaluate, mine, score, encode, export, expand, info, bench,
    delete, demo,
):  # fmt: skip
    main.add_command(command)
