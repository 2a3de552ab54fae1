"""Options that several commands share: the same name means the same in each of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from splade_es.cli.old_names import old_option

if TYPE_CHECKING:
    from splade_es.handles import Engine

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _JsonFile(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A file with one JSON object."""

    name = "file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            content = json.loads(Path(value).read_text("utf-8"))
        except OSError as error:
            self.fail(f"{value} cannot be read ({error.strerror})", param, ctx)
        except (ValueError, RecursionError) as error:
            self.fail(f"{value} is not JSON ({error})", param, ctx)
        if not isinstance(content, dict):
            self.fail(f"{value} has no JSON object", param, ctx)
        return content


JSON_FILE = _JsonFile()


def _trust(ctx: click.Context, param: click.Parameter, insecure: bool) -> None:
    if insecure:
        os.environ["SPLADE_ES_INSECURE"] = "1"  # where `connect` looks
        click.echo("--insecure: the server's certificate is not verified.", err=True)


insecure_option = click.option(
    "--insecure",
    is_flag=True,
    expose_value=False,
    callback=_trust,
    help="Do not verify the server's certificate.",
)


def url_option(command: _Command) -> _Command:
    """--url and --insecure."""
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
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as lines of JSON."
)


def model_option(purpose: str, *, required: bool = False) -> Callable[[_Command], _Command]:
    """--model. purpose: sentences on what it is for."""
    return click.option(
        "--model", required=required, help=f"Model: a directory or a hub name. {purpose}"
    )


moved_model_option = model_option(
    "Only needed if the model that the index names has moved, or was never loaded here."
)


def k_option(default: int) -> Callable[[_Command], _Command]:
    """-k, with this default."""
    return click.option(
        "-k", default=default, show_default=True, help="Results of a query, at most 10,000."
    )


mode_option = click.option(
    "--mode",
    type=click.Choice(["splade", "bm25", "hybrid"]),
    default="splade",
    show_default=True,
    help="How documents are ranked: by the terms that the model gives a query; by its words; or by "
    "both rankings, fused.",
)


def query_options(command: _Command) -> _Command:
    """The options of a command that encodes queries for an index."""
    for option in (
        click.option("--query-threshold", default=0.0, help="Drop query terms below this weight."),
        click.option("--query-top-k", type=int, help="Keep this many terms of a query."),
        moved_model_option,
        url_option,
        index_option,
    ):
        command = option(command)
    return command


def doc_length_option(command: _Command) -> _Command:
    """--doc-length; the library calls it max_length."""
    command = old_option("--max-length", stands_for="max_length")(command)
    return click.option(
        "--doc-length", "max_length", type=int, help="Tokens of a document.  [default: the model's]"
    )(command)


def encoding_options(command: _Command) -> _Command:
    """How a corpus is encoded: all of EncodingSettings."""
    for option in (
        click.option("--ray-workers", type=click.IntRange(1), help="Encoders on the Ray cluster."),
        click.option("--ray", help='Encode on a Ray cluster: its address, or "local".'),
        click.option(
            "--devices",
            help='Encode on several devices: "all" GPUs, or a list such as cuda:0,cuda:2.',
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
            help="Precision of the products: auto is bf16 where the hardware has it, otherwise "
            "fp32; int8 is for x86 CPUs, faster and not exact.  [default: auto]",
        ),
        click.option("--threshold", type=float, help="Drop document terms below this weight."),
        click.option("--top-k", type=int, help="Keep this many terms of a document."),
        click.option(
            "--scale", type=float, help="Stored integer = weight x scale.  [default: 100]"
        ),
        doc_length_option,
    ):
        command = option(command)
    return command


def rejects_options(items: str, name: str) -> Callable[[_Command], _Command]:
    """--rejects and --fail-fast. items: what may be bad; name: what the file is called after."""

    def decorate(command: _Command) -> _Command:
        command = click.option(
            "--fail-fast", is_flag=True, help=f"Stop at the first bad {items[:-1]}."
        )(command)
        return click.option(
            "--rejects", help=f"File for bad {items}.  [default: ./{name}.rejects.jsonl]"
        )(command)

    return decorate


@contextmanager
def open_engine(url: str | None) -> Iterator[Engine]:
    """The engine at a URL, closed at the end. One line on stderr says if it is the local one."""
    from splade_es.handles import connect

    with connect(url) as engine:
        if engine.name == "local":
            click.echo(f"Local engine in {engine.where} (--url names a server).", err=True)
        yield engine
