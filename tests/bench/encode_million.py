"""Memory while a long corpus is encoded: a table of the resident set, from beginning to end.

    python tests/bench/encode_million.py --corpus CORPUS [--count 1000000]

The documents are short passages of a corpus, again and again from other places; the model is a
small one at random (2 layers of 64, a WordPiece vocabulary of 4,000 made of the corpus), so that
two cores come to the end. `splade-es encode` runs in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from random_model import write_model
from splade_es.data.corpus import read_documents
from splade_es.records import Document

WORDS = 12  # of a passage
SAMPLES = 12


def passages(texts: list[str]) -> Iterator[str]:
    """Without end, and no two alike for long: each round begins a word later."""
    for start in itertools.count():
        for text in texts:
            words = text.split()[start:]
            for place in range(0, len(words), WORDS):
                yield " ".join(words[place : place + WORDS])


def resident(pid: int) -> float:
    """MB of a process, 0 after its end."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ProcessLookupError):
        return 0.0
    return int(fields[1]) * 4096 / 2**20 if len(fields) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    args = parser.parse_args()
    texts = [item.body for item in read_documents(args.corpus) if isinstance(item, Document)]
    with tempfile.TemporaryDirectory() as folder:
        model, corpus = Path(folder, "model"), Path(folder, "corpus.jsonl")
        vectors = Path(folder, "vectors")
        write_model(texts, model, "tiny", share=0.025)
        with corpus.open("w") as file:
            for number, text in enumerate(itertools.islice(passages(texts), args.count)):
                file.write(json.dumps({"_id": str(number), "text": text}) + "\n")
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", "from splade_es.cli.main import main; main()",
             "encode", str(corpus), "--model", str(model), "--output", str(vectors)],
            cwd=folder,
        )  # fmt: skip
        samples = []
        while process.poll() is None:
            done = len(list(vectors.glob("part-*.parquet"))) if vectors.exists() else 0
            samples.append((time.perf_counter() - started, done, resident(process.pid)))
            time.sleep(1)
        if process.returncode:
            sys.exit(process.returncode)
        size = sum(path.stat().st_size for path in vectors.iterdir()) / 2**20
        begun = [sample for sample in samples if sample[1] and sample[2]]
        print(f"{args.count:,} documents in {samples[-1][0]:.0f} s; {size:.0f} MB of vectors")
        print(f"{'seconds':>8}{'parts':>8}{'MB':>8}")
        for n in range(SAMPLES):
            seconds, parts, memory = begun[n * (len(begun) - 1) // (SAMPLES - 1)]
            print(f"{seconds:8.0f}{parts:8d}{memory:8.0f}")


if __name__ == "__main__":
    main()
