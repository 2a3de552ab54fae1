"""How fast documents are loaded: beside the server's own limit, through a network that fails, and
with how much memory.

    python tests/bench/load.py --vectors FOLDER --url URL [--documents 50000]
    python tests/bench/load.py --vectors FOLDER --url URL --faults 0.2 --stall 30
    python tests/bench/load.py --vectors FOLDER --url URL --documents 1000000 --memory

FOLDER is of `splade-es encode`; its documents are repeated under new ids as often as needed. The
limit is that of replaying the same bulk bodies, made beforehand, by as many threads as are best.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue

sys.path.insert(0, str(Path(__file__).parents[1]))

from proxy import Proxy
from splade_es.data.rejects import rejects_file
from splade_es.engines import connect
from splade_es.engines.server import ServerEngine
from splade_es.engines.transport import _json_line
from splade_es.indexing.bulk_actions import ToAction
from splade_es.indexing.load import index_corpus
from splade_es.indexing.load_settings import quiet
from splade_es.records import Encoded
from splade_es.vectors.parquet import VectorFolder, open_vectors, read_vectors

INDEX = "bench-load"
BODY_BYTES = 2_000_000


def documents(folder: VectorFolder, count: int) -> Iterator[Encoded]:
    """That many, read from the disk again and again, each with an id of its own."""
    rounds = itertools.count()
    number = 0
    while number < count:
        suffix = next(rounds)
        for document, vector in read_vectors(folder):
            number += 1
            if number > count:
                return
            id = f"{document.id}#{suffix}"
            yield Encoded(replace(document, id=id, number=number), vector)


@contextmanager
def empty_index(engine: ServerEngine, folder: VectorFolder) -> Iterator[None]:
    if engine.index(INDEX).exists():
        engine.index(INDEX).delete()
    engine.index(INDEX).create(folder.meta)
    with quiet(engine, INDEX):
        yield
    engine.index(INDEX).delete()


def load(engine: ServerEngine, folder: VectorFolder, count: int, memory: bool = False) -> float:
    """Seconds for all of them, the files read and the bodies made on the way."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        rejects_file(Path(scratch) / "rejects") as rejects,
        empty_index(engine, folder),
    ):
        started = time.perf_counter()
        told = 0
        steps = index_corpus(
            documents(folder, count), folder.vocabulary, engine, INDEX, rejects,
            settings=folder.settings,
        )  # fmt: skip
        for summary in steps:
            if memory and summary.indexed - told >= count // 10:
                told = summary.indexed
                print(f"{told:>12,} {summary.seconds:9.0f} s {resident():8.0f} MB", flush=True)
        seconds = time.perf_counter() - started
        assert (summary.indexed, summary.rejected) == (count, 0)
        assert engine.index(INDEX).count() == count  # none lost, none doubled
    return seconds


def bodies(folder: VectorFolder, count: int) -> list[bytes]:
    """The same documents as bulk bodies."""
    to_action = ToAction(folder.vocabulary, folder.settings, folder.meta.model)
    made, body, size = [], [], 0
    for item in documents(folder, count):
        id, source, *_ = to_action(*item)
        assert source is not None
        lines = _json_line({"index": {"_id": id}}) + _json_line({**source, "splade_id": id})
        body.append(lines)
        size += len(lines)
        if size > BODY_BYTES:
            made.append(b"".join(body))
            body, size = [], 0
    return [*made, b"".join(body)] if body else made


def replay(engine: ServerEngine, folder: VectorFolder, made: list[bytes], threads: int) -> float:
    """Seconds in which the server takes these bodies from so many threads."""
    waiting: Queue[bytes] = Queue()
    for body in made:
        waiting.put(body)

    def send() -> None:
        while True:
            try:
                body = waiting.get_nowait()
            except Empty:
                return
            action = "/_bulk?filter_path=items.*.status,items.*.error"
            answer = engine._send("POST", f"/{INDEX}{action}", body)
            assert all(item["index"]["status"] == 201 for item in answer["items"])

    with empty_index(engine, folder):
        started = time.perf_counter()
        senders = [threading.Thread(target=send) for _ in range(threads)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        engine.index(INDEX).refresh()
        return time.perf_counter() - started


def resident() -> float:
    """MB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def serve(url: str, share: float, stall: float, urls: multiprocessing.Queue[str]) -> None:
    proxy = Proxy(url, share, stall)
    urls.put(proxy.url)
    proxy.server.serve_forever()


@contextmanager
def through_proxy(url: str, share: float, stall: float) -> Iterator[ServerEngine]:
    """The engine behind a proxy that runs in a process of its own."""
    context = multiprocessing.get_context("spawn")
    urls = context.Queue()
    process = context.Process(target=serve, args=(url, share, stall, urls), daemon=True)
    process.start()
    engine = connect(urls.get(), patient=True)
    assert isinstance(engine, ServerEngine)
    yield engine
    engine.close()
    process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--stall", type=float, default=30.0)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    folder = open_vectors(options.vectors)
    count = options.documents
    engine = connect(options.url)
    assert isinstance(engine, ServerEngine)
    print(f"{engine.name} {engine.version}, {count:,} documents")
    if options.memory:
        print(f"{'documents':>12} {'after':>11} {'resident':>11}")
        load(engine, folder, count, memory=True)
    elif options.faults:
        seconds = {}
        for share in (0.0, options.faults):
            with through_proxy(options.url, share, options.stall) as hurt:
                seconds[share] = load(hurt, folder, count)
            ratio = seconds[share] / seconds[0.0]
            print(f"{share:4.0%} of the requests hurt  {seconds[share]:7.1f} s  {ratio:5.2f}")
    else:
        load(engine, folder, 10_000)  # the server's code is hot only after thousands of documents
        made = bodies(folder, count)
        limits = {n: replay(engine, folder, made, n) for n in (1, 2, 4)}
        for threads, seconds_ in limits.items():
            print(f"bodies replayed, {threads} threads  {count / seconds_:8.0f} documents/s")
        best = min(limits, key=limits.__getitem__)
        ours, theirs = [], [limits[best]]
        for _ in range(2):  # by turns: the machine is not the same from one minute to the next
            ours.append(load(engine, folder, count))
            theirs.append(replay(engine, folder, made, best))
        rates = [count / min(times) for times in (theirs, ours)]
        print(f"the best of {best} threads      {rates[0]:8.0f} documents/s")
        print(f"splade-es index           {rates[1]:8.0f} documents/s, {rates[1] / rates[0]:.2f}")
    engine.close()


if __name__ == "__main__":
    main()
