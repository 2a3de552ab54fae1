"""Options of the commands that encode a corpus, and what they make."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from splade_es.encoders.base import Precision, TextEncoder
    from splade_es.quantize import Quantizer
    from splade_es.records import Document, Rejected

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--model", help="SPLADE model: a directory or a hub name."),
    click.option("--max-length", type=int, help="Tokens of a document.  [default: the model's]"),
    click.option("--scale", type=float, help="Stored integer = weight x scale.  [default: 100]"),
    click.option("--top-k", type=int, help="Keep this many terms of a document."),
    click.option("--threshold", type=float, help="Drop document terms below this weight."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
        help="Of the products: auto is bf16 where the hardware has it, else fp32; int8 is for x86 "
        "CPUs, faster and not exact.  [default: auto]",
    ),
    click.option(
        "--devices",
        help='Encode on several devices: "all" GPUs, or a list such as cuda:0,cuda:2.',
    ),
    click.option("--ray", help='Encode on a Ray cluster: its address, or "local".'),
    click.option("--ray-workers", type=click.IntRange(1), help="Encoders on the Ray cluster."),
)


def encoding_options(command: _Command) -> _Command:
    """The options of `Encoding`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def rejects_options(command: _Command) -> _Command:
    """--rejects and --fail-fast."""
    command = click.option("--fail-fast", is_flag=True, help="Stop at the first bad line.")(command)
    return click.option("--rejects", help="File for bad lines.  [default: ./CORPUS.rejects.jsonl]")(
        command
    )


@dataclass
class Encoding:
    """How a corpus is encoded, as given on the command line; None is the default."""

    model: str | None = None
    max_length: int | None = None
    scale: float | None = None
    top_k: int | None = None
    threshold: float | None = None
    precision: Precision | None = None
    devices: str | None = None
    ray: str | None = None
    ray_workers: int | None = None

    def check(self) -> None:
        """Raises UsageError for options that do not go together."""
        if self.model is None:
            raise click.UsageError("Missing option '--model'.")
        if self.devices and self.ray:
            raise click.UsageError("--devices is for one machine, --ray for several: give one.")
        if self.ray_workers and not self.ray:
            raise click.UsageError("--ray-workers needs --ray.")

    def quantizer(self) -> Quantizer:
        """Raises ModelError for a setting out of range."""
        from splade_es.quantize import Quantizer

        given = {"scale": self.scale, "top_k": self.top_k, "threshold": self.threshold}
        settings: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        return Quantizer(**settings)

    @contextmanager
    def open(self) -> Iterator[TextEncoder]:
        """The encoder, closed at the end."""
        from splade_es.encoders.torch_encoder import Encoder

        name = cast(str, self.model)
        precision = self.precision or "auto"
        if not self.devices and not self.ray:
            yield Encoder.load(name, self.max_length, precision=precision)
            return

        from splade_es.encoders.workers import (
            DeviceWorkers,
            Model,
            ParallelEncoder,
            RayWorkers,
            Workers,
        )

        def start(model: Model) -> Workers:
            if self.ray:
                return RayWorkers(model, self.ray, self.ray_workers)
            return DeviceWorkers(model, _devices(cast(str, self.devices)))

        encoder = ParallelEncoder(Model(name, self.max_length, precision), start)
        try:
            yield encoder
        finally:
            encoder.close()


def _devices(text: str) -> list[str]:
    import torch

    if text == "all":
        if not torch.cuda.is_available():
            raise click.UsageError('--devices all: there is no GPU; leave it out, or say "cpu"')
        return [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    devices = [name.strip() for name in text.split(",")]
    for name in devices:
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise click.UsageError(f"--devices: no device {name!r} here ({reason})") from error
    return devices


def default_rejects(corpus: str) -> str:
    """In the current directory, because that of a corpus is often read-only."""
    return f"{'stdin' if corpus == '-' else Path(corpus).resolve().name}.rejects.jsonl"


def open_corpus(corpus: str, rejects: str | None) -> tuple[Iterator[Document | Rejected], str, str]:
    """The documents of a corpus, the file for its bad lines, and the file that is read.

    What is wrong with either is found before an index is touched.
    """
    import itertools

    from splade_es.data.corpus import read_documents

    if rejects is None:
        rejects = default_rejects(corpus)
    items = read_documents(corpus)
    first = next(items, None)
    if first is None:
        raise click.ClickException(f"{corpus}: no documents in it. Check the file.")
    source = first.place.rpartition(":")[0]  # in a folder, the file of it that is read
    if os.path.exists(rejects) and os.path.exists(source) and os.path.samefile(rejects, source):
        raise click.UsageError(f"--rejects would overwrite the corpus {source}")
    return itertools.chain([first], items), rejects, corpus if corpus == "-" else source


def warn_of_saturation(saturated: int) -> None:
    if saturated:
        click.echo(
            f"{saturated:,} weights were too large and were clipped: "
            "encode anew with a smaller --scale.",
            err=True,
        )


def fail_on_rejects(rejected: int, read: int, first: Rejected | None, rejects: str) -> None:
    if first:
        raise click.ClickException(
            f"{rejected:,} of {read:,} lines were rejected, the first at "
            f"{first.place}: {first.reason}. All are in {rejects} with their reasons: "
            "mend these lines and give them again."
        )
