"""The command `splade-es backfill`."""

from __future__ import annotations

from typing import Any

import click

from splade_es.cli.old_names import old_argument
from splade_es.cli.options import (
    encoding_options,
    index_option,
    json_option,
    model_option,
    open_engine,
    rejects_options,
    url_option,
)
from splade_es.cli.output import fail_on_rejects, print_json, progress_bar, warn_of_truncation


@click.command()
@old_argument("INDEX", stands_for="index_name")
@index_option
@click.option(
    "--field",
    "fields",
    required=True,
    multiple=True,
    help="Field with text; repeatable. OUTER.INNER is one in an object, or in each object of a "
    "list.",
)
@click.option(
    "--features-field",
    help="Name of the new field for the features, where the index has a field of its own that is "
    "called splade. The index remembers it.  [default: splade]",
)
@url_option
@model_option("It encodes the texts.", required=True)
@encoding_options
@rejects_options("documents", "INDEX")
@json_option
def backfill(
    index_name: str,
    fields: tuple[str, ...],
    url: str | None,
    model: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Add SPLADE features to the documents of an index, which may be in use.

    The text of the fields, one after the other, is what is encoded. A document that another writer
    changes meanwhile is never overwritten, but encoded again. Documents that have the features of
    their text are left alone: run the command again after an interruption, or to catch up with
    later changes. All other fields, the routing and foreign vectors stay as they are, and no ingest
    pipeline runs; an index where an update would lose a field is refused.

    \b
    Example:
      splade-es backfill --index products --field description --model model --url http://host:9200
    """
    from splade_es.encoders.allocator import keep_freed_memory

    keep_freed_memory()
    with open_engine(url) as engine, progress_bar("Updating", "documents") as move:
        done = engine.index(index_name).backfill(
            list(fields), model, progress=lambda counts: move(counts.updated, None), **settings
        )
    if as_json:
        print_json(done)
    else:
        rate = done.updated / done.seconds if done.seconds else 0.0
        click.echo(
            f"{index_name}: {done.updated:,} updated, {done.unchanged:,} unchanged, "
            f"{done.without:,} without text, {done.conflicts:,} changed meanwhile and encoded "
            f"again, {done.rejected:,} rejected; {done.seconds:.0f} s, {rate:.1f} documents/s"
        )
    warn_of_truncation(done.truncated, done.updated, done.max_length)
    fail_on_rejects(done.rejected, done.updated + done.rejected, done.first_rejected, done.rejects)
