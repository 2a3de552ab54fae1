"""Bytes from files as people have them: plain, compressed, or from standard input.

How a file is compressed, and whether it is text, is told by its first bytes, never by its name.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from splade_es.errors import CorpusError

#: First bytes -> the compression that can be read.
_PACKINGS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
#: First bytes -> what a file is that cannot be read, and what to do with it.
_REFUSED = {
    b"PK\x03\x04": ("a zip archive", "Unpack it, and give the file that was in it."),
    b"PK\x05\x06": ("an empty zip archive", "Give a file with text in it."),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it, and give the file that was in it."),
    b"PAR1": (
        "a Parquet file",
        "Write its rows as JSON Lines, for example with to_json(..., orient='records', "
        "lines=True) of pandas.",
    ),
    b"\xff\xfe\x00\x00": ("UTF-32 instead of UTF-8", "Convert it: iconv -f UTF-32 -t UTF-8."),
    b"\x00\x00\xfe\xff": ("UTF-32 instead of UTF-8", "Convert it: iconv -f UTF-32 -t UTF-8."),
    b"\xff\xfe": ("UTF-16 instead of UTF-8", "Convert it: iconv -f UTF-16 -t UTF-8."),
    b"\xfe\xff": ("UTF-16 instead of UTF-8", "Convert it: iconv -f UTF-16 -t UTF-8."),
}
# Bytes that are looked at; a tar archive says what it is at byte 257.
_HEAD = 512


@dataclass
class ByteStream:
    """An open file, decompressed.

    Attributes
    ----------
    name : str
        The path, or "stdin".
    place : str
        Where the reader is, for messages; the reader keeps it up to date.
    file : io.BufferedReader
        Its bytes.
    """

    name: str
    place: str
    file: io.BufferedReader[Any]

    def check_text(self) -> None:
        """Raise CorpusError if the first bytes are not those of UTF-8 text; nothing is read."""
        head = self.file.peek(_HEAD)[:_HEAD]
        for magic, (what, hint) in _REFUSED.items():
            if head.startswith(magic):
                raise CorpusError(f"{self.name}: {what}", hint)
        if head[257:262] == b"ustar":
            raise CorpusError(
                f"{self.name}: a tar archive", "Unpack it, and give the file that was in it."
            )
        if b"\0" in head:
            raise CorpusError(
                f"{self.name}: not text, its byte {head.index(0) + 1:,} is zero",
                "Give a text file in UTF-8.",
            )


@contextmanager
def open_bytes(path: str) -> Iterator[ByteStream]:
    """Open a file, or standard input for "-": plain, or compressed by gzip, bzip2, xz or zstd.

    Raises CorpusError, also where the block reads, if it cannot be read to its end.
    """
    name = "stdin" if path == "-" else path
    packing = ""
    damage: tuple[type[Exception], ...] = ()
    stream = ByteStream(name, name, cast(Any, None))
    with ExitStack() as stack:
        try:
            if path == "-":
                # Another reader, which can peek; it is detached, so that stdin stays open.
                file: io.BufferedReader[Any] = io.BufferedReader(
                    cast(io.RawIOBase, sys.stdin.buffer)
                )
                stack.callback(lambda: None if file.closed else file.detach())
            else:
                file = stack.enter_context(io.BufferedReader(io.FileIO(path)))
            stream.file = file
            head = file.peek(_HEAD)
            packing = next((p for magic, p in _PACKINGS.items() if head.startswith(magic)), "")
            if packing:
                unpacked, damage = _unpack(packing, file, name)
                stream.file = stack.enter_context(io.BufferedReader(unpacked, 1 << 17))
            yield stream
        except damage as exc:
            raise CorpusError(
                f"{stream.place}: the {packing} file is damaged or cut short ({exc})",
                "Copy or download it again.",
            ) from exc
        except IsADirectoryError as exc:
            raise CorpusError(f"{path}: is a directory", "Give the file in it.") from exc
        except FileNotFoundError as exc:
            raise CorpusError(f"{path}: no such file", "Check the path.") from exc
        except OSError as exc:
            raise CorpusError(
                f"{stream.place}: cannot be read ({exc.strerror or exc})",
                "Check the file and its permissions.",
            ) from exc


def _unpack(
    packing: str, file: io.BufferedReader[Any], name: str
) -> tuple[Any, tuple[type[Exception], ...]]:
    """The unpacked file, and what reading it raises if it is damaged."""
    if packing == "gzip":
        return gzip.GzipFile(fileobj=file), (EOFError, gzip.BadGzipFile, zlib.error)
    if packing == "bzip2":
        bz2 = import_module("bz2")
        return bz2.BZ2File(file), (EOFError, OSError)
    if packing == "xz":
        lzma = import_module("lzma")
        return lzma.LZMAFile(file), (EOFError, lzma.LZMAError)
    for module in ("compression.zstd", "backports.zstd"):  # of Python 3.14, and the same for others
        try:
            zstd = import_module(module)
        except ImportError:
            continue
        return zstd.ZstdFile(file), (EOFError, zstd.ZstdError)
    raise CorpusError(
        f"{name}: compressed by zstd, which this Python cannot read",
        "Run pip install backports.zstd, or unpack the file: zstd -d.",
    )
