"""What a load costs the client: CPU time for each document, in all and by part.

    python tests/bench/load_cpu.py --vectors FOLDER --url URL [--documents 20000] [--runs 3]

FOLDER is of `splade-es encode`; its documents are repeated under new ids as often as needed. A
loader often shares its processor with the server, so the time that counts is what it takes away
from that, of all its threads together. Each part is also measured by itself, without a server; the
rest is what only a load does: it groups, sends, reads answers, counts and writes the journal.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from load import Repeated

from splade_es.engines.connect import connect_engine
from splade_es.engines.server import ServerEngine
from splade_es.engines.transport import bulk_lines
from splade_es.indexing.bulk_actions import ActionBuilder, LoadRequest
from splade_es.indexing.load import Load
from splade_es.indexing.settings import LoadSettings
from splade_es.progress import follow
from splade_es.quantize import Quantizer
from splade_es.records import Document, Encoded, SparseRow
from splade_es.vectors.parquet import open_vectors, read_vectors, write_part

INDEX = "bench-load-cpu"
#: Documents of a request, of a batch of rows, and of a part of a folder.
REQUEST, ROWS, PART = 400, 64, 2048


def load(engine: ServerEngine, vectors: str, count: int) -> tuple[float, float, float]:
    """Seconds of CPU in all, of these in the thread that reads, and by the clock."""
    index = engine.index(INDEX, retry=True)
    if index.exists():
        index.delete()
    with tempfile.TemporaryDirectory() as scratch:
        settings: LoadSettings = {
            "rejects": str(Path(scratch, "rejects")), "journal": str(Path(scratch, "journal"))
        }  # fmt: skip
        source = Repeated(vectors, count)
        before = time.process_time(), time.thread_time(), time.perf_counter()
        done = follow(Load(index, source, settings).steps(), None)
        after = time.process_time(), time.thread_time(), time.perf_counter()
    assert (done.indexed, done.rejected) == (count, 0)
    index.delete()
    cpu, thread, clock = (b - a for a, b in zip(before, after, strict=True))
    return cpu, thread, clock


def batches(items: list[Encoded], size: int) -> Iterator[list[Encoded]]:
    remaining = iter(items)
    while few := list(islice(remaining, size)):
        yield few


def parts(vectors: str) -> dict[str, float]:
    """Milliseconds a document of what a load and `splade-es encode` do, each by itself."""
    folder = open_vectors(vectors)
    items = list(read_vectors(folder))
    rows = [SparseRow(v.ids, (v.values / 100).astype(np.float32)) for _, v in items]
    batched = [rows[n : n + ROWS] for n in range(0, len(rows), ROWS)]
    started = time.process_time()
    builder = ActionBuilder(folder.vocabulary, folder.settings, folder.meta.model)
    once = time.process_time() - started
    requests = [LoadRequest(few, 0, builder) for few in batches(items, REQUEST)]
    actions = [action for request in requests for action in request.actions()]
    bare = [
        LoadRequest([Encoded(Document(d.id, ""), v) for d, v in request.items], 0, builder)
        for request in requests
    ]
    quantizer = Quantizer()

    def each(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(5):
            started = time.process_time()
            work()
            seconds.append(time.process_time() - started)
        return 1e3 * min(seconds) / len(items)

    with tempfile.TemporaryDirectory() as scratch:

        def write() -> None:
            for few in batches(items, PART):
                write_part(Path(scratch), 0, few, folder.key)

        return {
            "read from Parquet": each(lambda: list(read_vectors(folder))),
            "made into actions": each(lambda: [request.actions() for request in requests]),
            "  content hashes of that": each(
                lambda: [item.document.content_hash(folder.settings) for item in items]
            ),
            "  without texts": each(lambda: [request.actions() for request in bare]),
            "lines of a request": each(lambda: [bulk_lines(action) for action in actions]),
            "made once, of a vocabulary": 1e3 * once,
            "quantised (encode)": each(lambda: [quantizer.quantize_all(few) for few in batched]),
            "written to Parquet (encode)": each(write),
        }


@contextmanager
def connected(url: str) -> Iterator[ServerEngine]:
    engine = connect_engine(url)
    assert isinstance(engine, ServerEngine)
    yield engine
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    count = options.documents
    with connected(options.url) as engine:
        print(f"{engine.name} {engine.version}, {count:,} documents; milliseconds a document")
        for _ in range(options.runs):
            cpu, thread, clock = (
                1e3 * seconds / count for seconds in load(engine, options.vectors, count)
            )
            reader = f"{thread:.4f} of it in the thread that reads"
            print(f"a load {cpu:.4f}, {reader}; {clock:.4f} by the clock")
    for part, milliseconds in parts(options.vectors).items():
        print(f"{part:<32} {milliseconds:.4f}")


if __name__ == "__main__":
    main()
