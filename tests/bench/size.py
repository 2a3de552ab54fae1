"""Bytes of an index: the usual way, and what splade-es makes of the same vectors.

    python tests/bench/size.py --vectors FOLDER --url URL

FOLDER is of `splade-es encode`. The usual way is float weights in `_source`, as `tolist()` of a
float32 vector and `json` write them, under the default codec, and the text beside them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from splade_es.engines.connect import connect_engine
from splade_es.engines.responses import parts
from splade_es.engines.server import ServerEngine
from splade_es.features import feature_names
from splade_es.index_handle import Index
from splade_es.records import Source
from splade_es.vectors.parquet import VectorFolder, open_vectors, read_vectors

INDEX = "bench-size"


def usual(engine: ServerEngine, folder: VectorFolder) -> None:
    features = engine.feature_fields[0].mapping
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    mapping = {"properties": {"splade": features, "text": {"type": "text"}}}
    engine.request("PUT", f"/{INDEX}", {"settings": settings, "mappings": mapping})
    names = feature_names(folder.vocabulary)
    items = read_vectors(folder)
    while batch := list(islice(items, 500)):
        lines: list[Any] = []
        for document, vector in batch:
            # within the rounding of the integers, so that all digits of a float32 are there
            floats = ((vector.values + 0.3) / folder.meta.scale).astype(np.float32).tolist()
            pairs = zip(vector.ids.tolist(), floats, strict=True)
            weights = {names[id]: weight for id, weight in pairs}
            lines += [{"index": {"_id": document.id}}, {"text": document.body, "splade": weights}]
        engine.request("POST", f"/{INDEX}/_bulk", *lines)


def ours(engine: ServerEngine, vectors: str, source: Source) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Index(engine, INDEX).load(
            vectors,
            source=source,
            rejects=str(Path(scratch, "rejects")),
            journal=str(Path(scratch, "journal")),
        )


def settled(engine: ServerEngine) -> tuple[int, dict[str, int]]:
    """The size once all that waits to be merged away is gone."""
    settings = engine.index(INDEX).settings
    assert settings
    settings.write({"soft_deletes.retention_lease.period": "1s"})
    for _ in range(2):
        engine.index(INDEX).refresh()
        engine.request("POST", f"/{INDEX}/_flush?force=true")
        time.sleep(35)
        engine.index(INDEX).force_merge()
    engine.request("POST", f"/{INDEX}/_flush?force=true")
    action = "/_stats/store,segments?include_segment_file_sizes=true"
    primaries = engine.request("GET", f"/{INDEX}{action}")["_all"]["primaries"]
    sizes = {name: f["size_in_bytes"] for name, f in primaries["segments"]["file_sizes"].items()}
    return primaries["store"]["size_in_bytes"], parts(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    folder = open_vectors(options.vectors)
    engine = connect_engine(options.url)
    assert isinstance(engine, ServerEngine)
    first = 0
    for name in ("usual", "full", "no-vectors"):
        if engine.index(INDEX).exists():
            engine.request("DELETE", f"/{INDEX}")
        if name == "usual":
            usual(engine, folder)
        else:
            ours(engine, options.vectors, "full" if name == "full" else "no-vectors")
        total, by_part = settled(engine)
        first = first or total
        described = ", ".join(f"{part} {size / 1e6:.1f}" for part, size in by_part.items())
        label = "usual way" if name == "usual" else f"splade-es, --source {name}"
        print(f"{label:32} {total / 1e6:7.1f} MB  {total / first:5.2f}  ({described})", flush=True)
    engine.request("DELETE", f"/{INDEX}")
    engine.close()


if __name__ == "__main__":
    main()
