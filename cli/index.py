"""splade-es index"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from splade_es.cli.encoding import (
    Encoding,
    default_rejects,
    encoding_options,
    fail_on_rejects,
    open_corpus,
    rejects_options,
    warn_of_saturation,
)
from splade_es.cli.options import json_option, open_engine, url_option
from splade_es.cli.output import print_json
from splade_es.engines.base import FieldType
from splade_es.records import Source

if TYPE_CHECKING:
    from splade_es.indexing.journal import Journal
    from splade_es.indexing.load import Summary


@click.command()
@click.argument("corpus")
@click.option("--index", "index_name", help="Name of the index.")
@click.option(
    "--alias",
    help="Build a new index ALIAS-<date>-<n>, check it, and let this alias stand for it at once. "
    "`splade-es rollback` goes back.",
)
@url_option
@click.option("--recreate", is_flag=True, help="Delete the index first, if there is one.")
@click.option("--resume", is_flag=True, help="Go on where an earlier load of CORPUS ended.")
@click.option("--journal", help="File for what is done.  [default: CORPUS.INDEX.journal]")
@click.option(
    "--delete-missing", is_flag=True, help="At the end, delete documents that CORPUS has not."
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
    help="What a new index keeps in _source. Without the vectors it is half as large and finds the "
    "same, but hits show no weights, and an update or a reindex of a document loses its vector.",
)
@encoding_options
@rejects_options
@json_option
def index(
    corpus: str,
    index_name: str | None,
    alias: str | None,
    url: str | None,
    recreate: bool,
    resume: bool,
    journal: str | None,
    delete_missing: bool,
    no_replicas: bool,
    force_merge: bool,
    field_type: FieldType | None,
    source: Source,
    rejects: str | None,
    fail_fast: bool,
    as_json: bool,
    **encoding: Any,
) -> None:
    """Encode CORPUS and load it into an index.

    CORPUS is JSON Lines with "_id", "text" and, if you like, "title" and further fields; plain or
    .gz; - for standard input; or a BEIR folder; or a folder that `splade-es encode` has written,
    which needs no --model. Loading into an index that is there adds to it, and leaves out what is
    there unchanged. A load that was interrupted, or whose server died, goes on with --resume.

    \b
    Example:
      splade-es index corpus.jsonl --model model --index articles --url http://localhost:9200
    """
    from splade_es.data.rejects import rejects_file
    from splade_es.errors import EngineError
    from splade_es.indexing.aliases import Sample, check_sample, next_name, publish
    from splade_es.indexing.changes import Seen, Unchanged
    from splade_es.indexing.changes import delete_missing as delete_documents
    from splade_es.indexing.journal import Journal
    from splade_es.indexing.load import index_corpus, index_meta
    from splade_es.indexing.load_settings import begin, quiet
    from splade_es.vectors.encode import encode_documents
    from splade_es.vectors.parquet import is_vector_folder, open_vectors, read_vectors

    if (index_name is None) == (alias is None):
        raise click.UsageError("Give --index, or --alias to build a new index behind it.")
    if recreate and (resume or alias):
        raise click.UsageError("--recreate begins anew: leave out --resume and --alias.")
    if resume and corpus == "-" and not journal:
        raise click.UsageError("Standard input is resumed with the --journal it was given.")
    how = Encoding(**encoding)
    with ExitStack() as stack:
        if is_vector_folder(corpus):
            if given := [name for name, value in encoding.items() if value is not None]:
                raise click.UsageError(
                    f"{corpus} holds vectors, made by `splade-es encode`: "
                    f"--{given[0].replace('_', '-')} would change nothing"
                )
            folder = open_vectors(corpus)
            meta, vocabulary, settings = folder.meta, folder.vocabulary, folder.settings
            rejects = rejects or default_rejects(corpus)
            items: Iterator[Any] = read_vectors(folder)
            read_from = corpus
        else:
            how.check()
            quantizer = how.quantizer()
            settings = quantizer.settings
            items, rejects, read_from = open_corpus(corpus, rejects)
        file = stack.enter_context(rejects_file(Path(rejects), fail_fast))
        path = journal or _beside(read_from, cast(str, index_name or alias))
        log = None
        if path:
            log = Journal.open(Path(path), resume=resume, recreate=recreate)
            stack.enter_context(closing(log))
        engine = stack.enter_context(open_engine(url, patient=True))
        if not is_vector_folder(corpus):
            encoder = stack.enter_context(how.open())
            meta, vocabulary = index_meta(encoder, quantizer), encoder.vocabulary
        if alias:
            index_name = (log and log.header.get("index")) or next_name(engine, alias)
        name = cast(str, index_name)
        with _resumable(log):
            new = begin(
                engine, name, meta, settings, log,
                recreate=recreate, field_type=field_type, source=source,
            )  # fmt: skip
            seen, sample = Seen(), Sample()
            unchanged = None if new else Unchanged(engine, name, settings)
            if delete_missing:
                items = seen.note(items)
            if log:
                items = log.remaining(items, file)
            if unchanged:
                items = unchanged.changed(items)
            if not is_vector_folder(corpus):
                items = encode_documents(items, encoder, quantizer, file)
            with quiet(engine, name, replicas=not no_replicas) if new else nullcontext():
                summary = _follow(
                    index_corpus(
                        items, vocabulary, engine, name, file,
                        settings=settings, journal=log, unchanged=unchanged, sample=sample,
                    )
                )  # fmt: skip
            if delete_missing and summary.rejected:
                click.echo("Nothing was deleted: rejected lines may be missing ones.", err=True)
            elif delete_missing:
                summary.deleted = delete_documents(engine, name, seen)
            if force_merge:
                engine.force_merge(name)
            before: list[str] = []
            if alias:
                try:
                    check_sample(engine, name, sample)
                except EngineError:
                    if log:
                        log.finish()  # to go on with such an index would be wrong
                    raise
                before = publish(engine, alias, name)
        if log:
            log.finish()
    if as_json:
        print_json({"index": name, **dataclasses.asdict(summary)})
    else:
        _print(name, summary)
        if alias:
            click.echo(
                f"{alias} stands for {name}" + (f", before for {', '.join(before)}" * bool(before))
            )
    warn_of_saturation(summary.saturated)
    fail_on_rejects(summary.rejected, summary.read, summary.first_rejected, rejects)


def _beside(source: str, name: str) -> str | None:
    """The journal of a corpus and an index: beside the corpus, or in the current directory where
    that of the corpus is read-only. None for standard input, which nobody can give twice."""
    if source == "-":
        return None
    path = Path(source).resolve()
    folder = path.parent if os.access(path.parent, os.W_OK) else Path()
    return str(folder / f"{path.name}.{name}.journal")


@contextmanager
def _resumable(journal: Journal | None) -> Iterator[None]:
    """What ends a load says how to go on; SIGTERM is taken for Ctrl-C."""
    from splade_es.errors import Interrupted, SpladeEsError

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        if journal is None or not journal.bound:
            raise
        raise Interrupted(
            "Interrupted: what was acknowledged is loaded", "Go on with --resume."
        ) from error
    except SpladeEsError as error:
        if journal and journal.bound and journal.path.exists():
            error.hint = f"{error.hint} What was acknowledged is loaded; --resume goes on."
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _follow(steps: Iterator[Summary]) -> Summary:
    from tqdm import tqdm

    with tqdm(desc="Indexing", unit=" documents", disable=not sys.stderr.isatty()) as bar:
        for summary in steps:
            bar.update(summary.read - bar.n)
    return summary


def _print(name: str, summary: Summary) -> None:
    rate = summary.indexed / summary.seconds if summary.seconds else 0.0
    further = {
        "unchanged": summary.unchanged,
        "deleted": summary.deleted,
        "of them by an earlier run": summary.resumed,
    }
    click.echo(
        f"{name}: {summary.read:,} read, {summary.indexed:,} indexed "
        f"({summary.replaced:,} replaced an earlier one, {summary.empty:,} without any term), "
        f"{summary.rejected:,} rejected"
        + "".join(f", {count:,} {what}" for what, count in further.items() if count)
        + f"; {summary.seconds:.0f} s, {rate:.1f} documents/s"
    )
