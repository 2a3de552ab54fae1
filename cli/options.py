"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from splade_es.engines.base import Engine

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _trust(ctx: click.Context, param: click.Parameter, insecure: bool) -> None:
    if insecure:
        os.environ["SPLADE_ES_INSECURE"] = "1"  # where the engines look
        click.echo("--insecure: the server's certificate is not verified.", err=True)


insecure_option = click.option(
    "--insecure",
    is_flag=True,
    expose_value=False,
    callback=_trust,
    help="Do not verify the server's certificate.",
)


def url_option(command: _Command) -> _Command:
    """--url, and --insecure, which is for the engines alone."""
    command = insecure_option(command)
    return click.option(
        "--url",
        envvar="SPLADE_ES_URL",
        show_envvar=True,
        help="Elasticsearch or OpenSearch, e.g. http://localhost:9200, several hosts with commas, "
        "or cloud:CLOUD_ID; local:DIR is the local engine in that directory. Credentials: "
        "SPLADE_ES_API_KEY, SPLADE_ES_BEARER_TOKEN, or SPLADE_ES_USERNAME and SPLADE_ES_PASSWORD.",
    )(command)


index_option = click.option("--index", "index_name", required=True, help="Name of the index.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print lines of JSON.")


def query_options(command: _Command) -> _Command:
    """The options of a command that encodes queries for an index."""
    for option in (
        click.option("--query-threshold", default=0.0, help="Drop query terms below this weight."),
        click.option("--query-top-k", type=int, help="Keep this many terms of a query."),
        click.option("--model", help="Where the model is now, if it has moved."),
        url_option,
        index_option,
    ):
        command = option(command)
    return command


@contextmanager
def open_engine(url: str | None, *, patient: bool = False) -> Iterator[Engine]:
    """The engine at a URL, closed at the end; says so in one line when it is the local one.

    patient: for commands of hours; see `connect`."""
    from splade_es.engines import connect

    engine = connect(url, patient=patient)
    if engine.name == "local":
        click.echo(f"Local engine in {engine.where} (--url names a server).", err=True)
    try:
        yield engine
    finally:
        engine.close()
