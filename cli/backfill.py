"""splade-es backfill"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from splade_es.cli.encoding import (
    Encoding,
    default_rejects,
    encoding_options,
    fail_on_rejects,
    rejects_options,
)
from splade_es.cli.options import json_option, open_engine, url_option
from splade_es.cli.output import print_json


@click.command()
@click.argument("index")
@click.option(
    "--field", "fields", required=True, multiple=True, help="Field with text; repeatable."
)
@url_option
@encoding_options
@rejects_options
@json_option
def backfill(
    index: str,
    fields: tuple[str, ...],
    url: str | None,
    rejects: str | None,
    fail_fast: bool,
    as_json: bool,
    **encoding: Any,
) -> None:
    """Add SPLADE features to the documents of INDEX, which may be in use.

    The text of the fields, one after the other, is what is encoded. A document that somebody
    changes meanwhile is never overwritten, but done again as it is then. What has the features of
    its text is left alone: run it again after an interruption, or to catch up with later changes.

    \b
    Example:
      splade-es backfill products --field description --model model --url http://localhost:9200
    """
    from tqdm import tqdm

    from splade_es.cli.backfill import backfill as fill
    from splade_es.data.rejects import rejects_file
    from splade_es.engines.server import ServerEngine
    from splade_es.errors import EngineError
    from splade_es.indexing.backfill import Filled
    from splade_es.indexing.load import index_meta

    how = Encoding(**encoding)
    how.check()
    quantizer = how.quantizer()
    rejects = rejects or default_rejects(index)
    filled = Filled()
    with (
        rejects_file(Path(rejects), fail_fast) as file,
        open_engine(url, patient=True) as engine,
        how.open() as encoder,
    ):
        if not isinstance(engine, ServerEngine):
            raise EngineError("The local engine holds no index but ours", "Give --url.")
        steps = fill(
            engine, index, list(fields), encoder, quantizer, index_meta(encoder, quantizer), file
        )
        with tqdm(desc="Updating", unit=" documents", disable=not sys.stderr.isatty()) as bar:
            for filled in steps:
                bar.update(filled.updated - bar.n)
    if as_json:
        print_json({"index": index, **dataclasses.asdict(filled)})
    else:
        rate = filled.updated / filled.seconds if filled.seconds else 0.0
        click.echo(
            f"{index}: {filled.updated:,} updated, {filled.unchanged:,} unchanged, "
            f"{filled.without:,} without text, {filled.conflicts:,} changed meanwhile and done "
            f"again, {filled.rejected:,} rejected; {filled.seconds:.0f} s, {rate:.1f} documents/s"
        )
    fail_on_rejects(
        filled.rejected, filled.updated + filled.rejected, filled.first_rejected, rejects
    )
