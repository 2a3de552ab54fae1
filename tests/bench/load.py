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
from pathlib import Path
from queue import Empty, Queue

sys.path.insert(0, str(Path(__file__).parents[1]))

from proxy import Proxy
from splade_es.engines.connect import connect_engine
from splade_es.engines.server import ServerEngine
from splade_es.engines.transport import bulk_lines
from splade_es.indexing.bulk_actions import ActionBuilder, LoadRequest
from splade_es.indexing.load import Load
from splade_es.indexing.load_settings import loading_settings
from splade_es.indexing.settings import LoadSettings
from splade_es.indexing.source import VectorSource
from splade_es.records import Document, Encoded
from splade_es.vectors.parquet import open_vectors, read_vectors

INDEX = "bench-load"
BODY_DOCUMENTS = 250


class Repeated(VectorSource):
    """That many documents, read from the disk again and again, each with an id of its own."""

    def __init__(self, vectors: str, count: int) -> None:
        super().__init__(vectors)
        self.file = None  # no journal
        self._count = count
        self._vectors = open_vectors(vectors)

    def items(self) -> Iterator[Encoded]:
        rounds = itertools.count()
        number = 0
        while number < self._count:
            suffix = next(rounds)
            for document, vector in read_vectors(self._vectors):
                number += 1
                if number > self._count:
                    return
                id = f"{document.id}#{suffix}"
                title, text, fields = document.title, document.text, document.fields
                yield Encoded(Document(id, text, title, fields, document.place, number), vector)


def load(engine: ServerEngine, vectors: str, count: int, memory: bool = False) -> float:
    """Seconds for all of them, the files read and the bodies made on the way."""
    index = engine.index(INDEX, retry=True)
    if index.exists():
        index.delete()
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        shown = 0
        settings: LoadSettings = {"rejects": str(Path(scratch, "rejects"))}
        for done in Load(index, Repeated(vectors, count), settings).steps():
            if memory and done.indexed - shown >= count // 10:
                shown = done.indexed
                print(f"{shown:>12,} {done.seconds:9.0f} s {resident():8.0f} MB", flush=True)
        seconds = time.perf_counter() - started
    assert (done.indexed, done.rejected) == (count, 0)
    assert index.count() == count  # none lost, none doubled
    index.delete()
    return seconds


def bodies(vectors: str, count: int) -> list[bytes]:
    """The same documents as bulk bodies."""
    source = Repeated(vectors, count)
    builder = ActionBuilder(source.vocabulary, source.settings, source.meta.model)
    items = source.items()
    made = []
    while few := list(itertools.islice(items, BODY_DOCUMENTS)):
        lines = [b"\n".join(bulk_lines(a)) for a in LoadRequest(few, 0, builder).actions()]
        made.append(b"\n".join([*lines, b""]))
    return made


def replay(engine: ServerEngine, vectors: str, made: list[bytes], threads: int) -> float:
    """Seconds in which the server takes these bodies from so many threads."""
    index = engine.index(INDEX)
    index.create(open_vectors(vectors).meta)
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
            answer = engine.send("POST", f"/{INDEX}{action}", body, 60.0)
            assert all(item["index"]["status"] == 201 for item in answer["items"])

    with loading_settings(index):
        started = time.perf_counter()
        senders = [threading.Thread(target=send) for _ in range(threads)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        index.refresh()
        seconds = time.perf_counter() - started
    index.delete()
    return seconds


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
    engine = connect_engine(urls.get())
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
    vectors = options.vectors
    count = options.documents
    engine = connect_engine(options.url)
    assert isinstance(engine, ServerEngine)
    print(f"{engine.name} {engine.version}, {count:,} documents")
    if options.memory:
        print(f"{'documents':>12} {'after':>11} {'resident':>11}")
        load(engine, vectors, count, memory=True)
    elif options.faults:
        seconds = {}
        for share in (0.0, options.faults):
            with through_proxy(options.url, share, options.stall) as hurt:
                seconds[share] = load(hurt, vectors, count)
            ratio = seconds[share] / seconds[0.0]
            print(f"{share:4.0%} of the requests hurt  {seconds[share]:7.1f} s  {ratio:5.2f}")
    else:
        load(engine, vectors, 10_000)  # the server's code is hot only after thousands of documents
        made = bodies(vectors, count)
        limits = {n: replay(engine, vectors, made, n) for n in (1, 2, 4)}
        for threads, seconds_ in limits.items():
            print(f"bodies replayed, {threads} threads  {count / seconds_:8.0f} documents/s")
        best = min(limits, key=limits.__getitem__)
        ours, theirs = [], [limits[best]]
        for _ in range(2):  # by turns: the machine is not the same from one minute to the next
            ours.append(load(engine, vectors, count))
            theirs.append(replay(engine, vectors, made, best))
        rates = [count / min(times) for times in (theirs, ours)]
        print(f"the best of {best} threads      {rates[0]:8.0f} documents/s")
        print(f"splade-es index           {rates[1]:8.0f} documents/s, {rates[1] / rates[0]:.2f}")
    engine.close()


if __name__ == "__main__":
    main()
