"""The command `splade-es index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from splade_es.cli.options import (
    JSON_FILE,
    encoding_options,
    json_option,
    model_option,
    open_engine,
    rejects_options,
    url_option,
)
from splade_es.cli.output import (
    fail_on_rejects,
    print_json,
    progress_bar,
    warn_of_saturation,
    warn_of_truncation,
)

if TYPE_CHECKING:
    from splade_es.progress import LoadProgress


@click.command()
@click.argument("corpus")
@click.option("--index", "index_name", help="Name of the index.")
@click.option(
    "--alias",
    help="Build a new index ALIAS-<date>-<n>, check it, and let this alias point to it in one "
    "step. `splade-es rollback` goes back.",
)
@url_option
@click.option(
    "--recreate",
    is_flag=True,
    help="If the index exists, build a new one beside it, with the shards, mapping and settings of "
    "this call, and let it take the place of the old one, which is deleted, when it is whole and "
    "good. On a server the name is an alias from then on.",
)
@click.option(
    "--max-rejected",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Bad lines to accept before something is replaced or deleted.",
)
@click.option(
    "--max-empty",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of documents without any term to accept before something is replaced.",
)
@click.option(
    "--max-shrink",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Share of the documents that may disappear when something is replaced or deleted.",
)
@click.option("--resume", is_flag=True, help="Continue an earlier load of CORPUS where it ended.")
@click.option("--journal", help="File that records what is done.  [default: CORPUS.INDEX.journal]")
@click.option(
    "--delete-missing",
    is_flag=True,
    help="At the end, delete documents that CORPUS does not contain.",
)
@click.option(
    "--no-replicas",
    is_flag=True,
    help="Load a new index without replicas, which is faster; losing a node loses the load.",
)
@click.option("--force-merge", is_flag=True, help="At the end, rewrite the index as one segment.")
@click.option(
    "--field-type",
    type=click.Choice(["rank_features", "sparse_vector"]),
    help="Field type of a new index.  [default: rank_features where the server has it]",
)
@click.option(
    "--source",
    type=click.Choice(["full", "no-vectors"]),
    default="full",
    show_default=True,
    help="What a new index keeps in _source. Without the vectors it is half as large and finds the "
    "same, but hits show no weights, and an update or a reindex of a document loses its vector.",
)
@click.option("--shards", type=click.IntRange(1), help="Shards of a new index.  [default: 1]")
@click.option(
    "--replicas",
    type=click.IntRange(0),
    help="Replicas of a new index.  [default: one where there is a second node]",
)
@click.option(
    "--analyzer",
    help="Analyzer of title and text in a new index, for BM25: one of the server's, such as "
    "german.  [default: words without English stop words]",
)
@click.option(
    "--mapping",
    type=JSON_FILE,
    default={},
    metavar="FILE",
    help="JSON that is laid over the mapping of a new index, "
    'e.g. {"properties": {"year": {"type": "integer"}}}.',
)
@click.option(
    "--settings",
    type=JSON_FILE,
    default={},
    metavar="FILE",
    help="JSON that is laid over the settings of a new index.",
)
@model_option("It encodes CORPUS, unless that is a folder of vectors.")
@encoding_options
@rejects_options("lines", "CORPUS")
@json_option
def index(
    corpus: str,
    index_name: str | None,
    alias: str | None,
    url: str | None,
    no_replicas: bool,
    delete_missing: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Encode CORPUS and load it into an index.

    CORPUS is JSON Lines with "_id", "text" and, optionally, "title" and further fields, or a JSON
    array of the same objects; plain, or compressed by gzip, bzip2, xz or zstd; - for standard
    input; or a BEIR folder; or a file of rejects; or a folder that `splade-es encode` has written,
    which needs no --model. An index that exists is added to; documents that it has unchanged are
    left out. A load that was interrupted, or whose server died, continues with --resume.

    \b
    Example:
      splade-es index corpus.jsonl --model model --index articles --url http://localhost:9200
    """
    from splade_es.cli.signals import sigterm_as_interrupt
    from splade_es.encoders.allocator import keep_freed_memory

    if (index_name is None) == (alias is None):
        raise click.UsageError(
            "Give --index, or --alias to build a new index behind it"
            + (", not both." if alias else ".")
        )
    keep_freed_memory()
    with (
        sigterm_as_interrupt(),
        open_engine(url) as engine,
        progress_bar("Indexing", "documents") as move,
    ):
        done = engine.index(str(alias or index_name)).load(
            corpus,
            alias=alias is not None,
            replicas_while_loading=not no_replicas,
            delete_missing=delete_missing,
            progress=lambda counts: move(counts.read, None),
            **settings,
        )
    if as_json:
        print_json(done)
    else:
        _print(done, alias)
    if delete_missing and done.rejected > settings["max_rejected"]:
        click.echo("Nothing was deleted: rejected lines may be missing ones.", err=True)
    warn_of_saturation(done.saturated)
    warn_of_truncation(done.truncated, done.indexed, done.max_length)
    fail_on_rejects(done.rejected, done.read, done.first_rejected, done.rejects)


def _print(done: LoadProgress, alias: str | None) -> None:
    rate = done.indexed / done.seconds if done.seconds else 0.0
    further = {
        "unchanged": done.unchanged,
        "deleted": done.deleted,
        "of them by an earlier run": done.resumed,
    }
    click.echo(
        f"{done.index}: {done.read:,} read, {done.indexed:,} indexed "
        f"({done.replaced:,} replaced an earlier one, {done.empty:,} without any term), "
        f"{done.rejected:,} rejected"
        + "".join(f", {count:,} {what}" for what, count in further.items() if count)
        + f"; {done.seconds:.0f} s, {rate:.1f} documents/s"
    )
    if alias:
        before = f", before to {', '.join(done.previous)}" if done.previous else ""
        click.echo(f"{alias} points to {done.index}{before}")
