"""A fuzzer of the readers: valid files with random changes must be read, or refused in a line.

    python tests/fuzz.py TARGET SECONDS [SEED]

prints the inputs that broke a reader, and keeps them in the directory fuzz-findings. test_fuzz.py
runs each target for a moment.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from splade_es.errors import SpladeEsError

#: Files by their path in a folder.
Files = dict[str, bytes]

#: A reader may take this long, and this much more memory than before.
SECONDS, BYTES = 10, 1 << 30

_BYTES = (
    b"", b"\0", b"\n", b"\r", b"\t", b" ", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"&a",
    b"*a", b"!!", b"- ", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\xff\xff\xff\x7f",
    b"\x80", b"-1", b"0", b"1e999", b"NaN", b"9" * 5000, b"0x" + b"f" * 9000, b"true", b"null",
    b"[" * 5000, b"{" * 300, b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"(" * 3000, b"\xff" * 8,
    b"\x8a\xff", b"\x8b\0\0\1\0" + b"\x7f" * 256,
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3.5, 1e300, 10**30, 2**31, 2**63, "", "x", "1", "\ud800", "\0",
    "../..", "max", [], [[]], [None], [1, "a"], {}, {"a": 1}, {"": None}, "x" * 5000,
)  # fmt: skip


def mutate(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    """The content with one to four changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        content = _change(content, draw, others)
    return content


def _change(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    if draw.random() < 0.5 and (changed := _change_json(content, draw)) is not None:
        return changed
    at = draw.randrange(len(content) + 1)
    end = min(len(content), at + draw.choice((1, 1, 1, 2, 4, 8, 64, 1024)))
    match draw.randrange(7):
        case 0:  # other bits of a byte
            if at < len(content):
                return (
                    content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
                )
            return content
        case 1:  # another byte
            return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]
        case 2:  # without some
            return content[:at] + content[end:]
        case 3:  # some twice
            return content[:end] + content[at:end] * draw.choice((1, 1, 100)) + content[end:]
        case 4:  # cut short
            return content[:at]
        case 5:  # half of another file
            other = draw.choice(others)
            return content[:at] + other[draw.randrange(len(other) + 1) :]
        case _:  # what is often mistaken
            return (
                content[:at] + draw.choice(_BYTES) + content[at if draw.random() < 0.5 else end :]
            )


def _change_json(content: bytes, draw: random.Random) -> bytes | None:
    """Another value somewhere in JSON, or in a line of JSON Lines; None for anything else."""
    lines = content.splitlines(keepends=True) or [b""]
    whole = draw.random() < 0.5
    number = draw.randrange(len(lines))
    try:
        value = json.loads(content if whole else lines[number])
    except (ValueError, RecursionError):
        return None
    try:
        changed = json.dumps(_other(value, draw)).encode()
    except (ValueError, RecursionError):
        return None
    if whole:
        return changed
    lines[number] = changed + b"\n"
    return b"".join(lines)


def _other(value: Any, draw: random.Random) -> Any:
    inner = (
        list(value)
        if isinstance(value, dict)
        else range(len(value) if isinstance(value, list) else 0)
    )
    if not inner or draw.random() < 0.15:
        return draw.choice(_VALUES)
    key = draw.choice(inner)
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if draw.random() < 0.15:
        del copy[key]
    else:
        copy[key] = _other(value[key], draw)
    return copy


class Finding(NamedTuple):
    """An input that broke a reader, and how."""

    files: Files
    how: str


def fuzz(
    read: Callable[[Path], object],
    seeds: list[Files],
    seed: int,
    *,
    executions: int | None = None,
    seconds: float | None = None,
) -> tuple[int, list[Finding]]:
    """Give mutated files to a reader; the number of executions, and what went wrong."""
    draw = random.Random(seed)
    ends = time.monotonic() + seconds if seconds else float("inf")
    findings: dict[str, Finding] = {}
    contents = [content for files in seeds for content in files.values()]
    count = 0
    while count < (executions or float("inf")) and time.monotonic() < ends:
        count += 1
        files = dict(draw.choice(seeds))
        small = [name for name, content in files.items() if len(content) < 5000]
        name = draw.choice(small if small and draw.random() < 0.5 else list(files))
        if draw.random() < 0.02:
            del files[name]
        else:
            files[name] = mutate(files[name], draw, contents)
        if how := execute(read, files):
            findings.setdefault(how.splitlines()[-1] + how.splitlines()[-3], Finding(files, how))
    return count, list(findings.values())


def execute(read: Callable[[Path], object], files: Files) -> str | None:
    """Read some files; how that went wrong, or None."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        with _limited():
            read(folder)
    except SpladeEsError as error:
        if len(str(error)) > 2000:
            return f"\n\nA message of {len(str(error))} characters\n{str(error)[:200]}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return traceback.format_exc()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return f"\n\nIt took {grown >> 20} MB" if grown > BYTES else None


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"It took more than {SECONDS} seconds")

    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def main() -> None:
    from fuzz_targets import TARGETS

    target, seconds = sys.argv[1], float(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    make = TARGETS[target]
    with tempfile.TemporaryDirectory() as folder:
        read, seeds = make(Path(folder))
        count, findings = fuzz(read, seeds, seed, seconds=seconds)
    print(f"{target}: {count:,} executions, {len(findings)} findings")
    for number, finding in enumerate(findings):
        kept = Path("fuzz-findings", f"{target}-{seed}-{number}")
        for name, content in finding.files.items():
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (kept / name).write_bytes(content)
        print(f"--- {kept}\n{finding.how[-1500:]}")


if __name__ == "__main__":
    main()
