"""How long the page takes beside the engine: what a person waits for, over a real index.

    python tests/bench/page.py --index NAME --queries queries.jsonl --url URL

The index remembers its model. Each query is asked three times, by either ranking; printed are the
median and the 95th percentile of the time beyond the engine's own.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

import urllib3

from splade_es.data.trec_beir import read_queries
from splade_es.encoders.load import load_document_encoder
from splade_es.engines.connect import connect_engine
from splade_es.inspection.page.app import listen, make_app
from splade_es.inspection.page.server import make_server
from splade_es.search.searcher import Searcher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    engine = connect_engine(options.url)
    searcher = Searcher(engine.index(options.index), interactive=True)
    documents = load_document_encoder(
        searcher.encoder.name, searcher.meta.max_length, interactive=True
    )
    listening = listen("127.0.0.1", 0)
    app = make_app(searcher, documents, ["127.0.0.1"])
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/api/search"
    texts = [query.text for query in read_queries(options.queries)[: options.count]]
    print(f"{engine.name} {engine.version}, {searcher.index.count():,} documents, ms")
    print(f"{'':>8} {'engine':>8} {'beyond':>8} {'95 %':>8}")
    with urllib3.PoolManager() as http:
        for mode in ("exact", "pruned", "hybrid"):
            inside, beyond = [], []
            for text in 3 * texts:
                started = time.perf_counter()
                answer = http.request("POST", url, json={"query": text, "mode": mode}).json()
                inside.append(answer["engine_ms"])
                beyond.append(1000 * (time.perf_counter() - started) - answer["engine_ms"])
            beyond.sort()
            print(
                f"{mode:>8} {statistics.median(inside):8.1f} {statistics.median(beyond):8.1f} "
                f"{beyond[int(0.95 * len(beyond))]:8.1f}"
            )
    server.should_exit = True
    thread.join()
    listening.close()
    engine.close()


if __name__ == "__main__":
    main()
