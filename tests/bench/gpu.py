"""What a GPU gives: the head, encoding and training, each beside its peer on the same card.

    python -m tests.bench.gpu [--corpus CORPUS] [--pairs PAIRS] [--output FILE.json] [--small]

Within eight minutes, without a network. Each part runs in a process of its own under a limit of
time; one that fails is reported, and the next one begins. Without a card, or with --small, the
sizes are small: that shows that the command runs, and measures nothing.

The models have random weights in the sizes of MiniLM and BERT-base, because no weights are needed
to measure speed; their vocabulary is made of the texts. Real text: by default that of "splade-es
demo". FLOPs count the tokens of the texts, without padding, and the head.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "bench")]

import torch  # noqa: E402 - what a part imports is found by these paths
from torch import Tensor  # noqa: E402

#: Part -> seconds it may take.
PARTS = {
    "card": 30,
    "head": 60,
    "encode minilm": 90,
    "encode bert-base": 110,
    "train": 110,
    "tests": 180,
}
BODY_DOCUMENTS = 512


def timed(run: Callable[[], object], runs: int = 9) -> float:
    """Median milliseconds on the device, after three runs to warm up."""
    on_gpu = torch.cuda.is_available()
    found = []
    for number in range(runs + 3):
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize()
        if number > 2:
            found.append(1000 * (time.perf_counter() - started))
    return statistics.median(found)


def peak(run: Callable[[], object]) -> float:
    """MB that a run adds to what is allocated."""
    if not torch.cuda.is_available():
        return float("nan")
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def card(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The card and its limits."""
    import transformers

    from splade_es.encoders.work import device_limits

    row: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if torch.cuda.is_available():
        limits = device_limits(torch.device("cuda"))
        row |= {
            "card": torch.cuda.get_device_name(),
            "bf16_tflops": limits.flops / 1e12,
            "copy_gb_per_second": limits.bytes / 1e9,
        }
    return [row]


def head(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Forward and backward of the head, with a tenth of the vocabulary active."""
    small = (2, 16, 32, 500), (2, 16, 32, 2000)
    cases = (64, 256, 768, 30_522), (128, 256, 768, 250_002)
    return [row for sizes in (small if args.small else cases) for row in both_heads(*sizes)]


def both_heads(batch: int, length: int, dim: int, size: int) -> Iterator[dict[str, Any]]:
    from splade_es.models.head import splade_head

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    hidden = torch.randn(batch, length, dim, device=device).bfloat16().requires_grad_()
    weight = (0.05 * torch.randn(size, dim, device=device)).requires_grad_()
    mask = torch.ones(batch, length, device=device)
    bias = torch.zeros(size, device=device)
    with torch.no_grad():
        logits = splade_head(hidden[:2], mask[:2], weight, bias).expm1()  # [2, V]
        bias -= logits.flatten()[: 2**20].quantile(0.9)
    bias.requires_grad_()
    upstream = torch.rand(batch, size, device=device)

    def plain() -> Tensor:
        logits = hidden @ weight.to(hidden.dtype).T + bias.to(hidden.dtype)  # [B, L, V]
        return (torch.log1p(torch.relu(logits)) * mask.unsqueeze(-1)).amax(dim=1)

    def ours() -> Tensor:
        return splade_head(hidden, mask, weight, bias)

    def measure(name: str, made: Callable[[], Tensor]) -> dict[str, Any]:
        def step() -> None:
            torch.autograd.grad((made() * upstream).sum(), (hidden, weight, bias))

        row: dict[str, Any] = {"batch": batch, "length": length, "vocabulary": size, "head": name}
        try:
            return {**row, "ms": timed(step), "peak_mb": peak(step)}
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return {**row, "ms": None, "peak_mb": None}

    peer, own = measure("plain PyTorch", plain), measure("splade-es", ours)
    yield peer
    own["active_share"] = float((ours() > 0).float().mean())
    if peer["ms"]:
        own |= {"times_faster": peer["ms"] / own["ms"], "of_peak": own["peak_mb"] / peer["peak_mb"]}
    yield own


def encode(args: argparse.Namespace, size: str) -> list[dict[str, Any]]:
    """Encoding beside sentence-transformers; then to Parquet, and to bulk bodies."""
    from splade_es.data.corpus import read_documents
    from splade_es.encoders.allocator import keep_freed_memory
    from splade_es.encoders.base import TextEncoder
    from splade_es.encoders.load import load_batch_encoder
    from splade_es.encoders.torch_encoder import Encoder
    from splade_es.encoders.work import device_limits
    from splade_es.records import Document

    on_gpu = torch.cuda.is_available()
    keep_freed_memory()  # as the commands do
    name = str(Path(args.folder, size))
    items = read_documents(args.corpus)
    documents = [item for item in items if isinstance(item, Document)]
    count = 200 if args.small else 24_000 if size == "minilm" else 16_000
    documents = list(itertools.islice(itertools.cycle(documents), count))
    texts = [document.body for document in documents]
    limit = device_limits(torch.device("cuda")).flops if on_gpu else float("nan")
    rows = []
    for length in (32, 64) if args.small else (128, 256):
        theirs, their_batch = best_of_theirs(name, texts, length, 16 if args.small else 2500)
        local = Encoder.load(name, length, precision="bf16")
        encoder: TextEncoder = local
        list(encoder.encode(texts))  # to warm up; shapes of batches come again
        rate = throughput(texts, encoder.encode(texts))
        flops, tokens = model_flops(local, texts)
        row = {"model": size, "length": length, "tokens": tokens / count, "documents": count}
        rows += [
            {**row, "what": f"sentence-transformers, batch {their_batch}", "docs_per_s": theirs},
            {**row, "what": "splade-es", "docs_per_s": rate, "ratio": rate / theirs,
             "of_matrix_rate": flops * rate / count / limit},
        ]  # fmt: skip
    for where in ("", ", the encoder in a process of its own"):
        with contextlib.ExitStack() as stack:
            if where:
                devices = "cuda:0" if on_gpu else "cpu"
                encoder = stack.enter_context(
                    load_batch_encoder(name, length, precision="bf16", devices=devices)
                )
                list(encoder.encode(texts))
            for what, made in (("to Parquet", to_parquet), ("to bulk bodies", to_bodies)):
                ended = throughput(texts, made(encoder, documents, args.folder))
                share = {"docs_per_s": ended, "of_encode_alone": ended / rate}
                rows.append({**row, "what": what + where, **share})
    return rows


def throughput(texts: list[str], results: Iterable[object]) -> float:
    started = time.perf_counter()
    for _ in results:
        pass
    return len(texts) / (time.perf_counter() - started)


def best_of_theirs(name: str, texts: list[str], length: int, count: int) -> tuple[float, int]:
    """Documents a second of sentence-transformers in bf16, and the best size of its batches."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(name, model_kwargs={"dtype": torch.bfloat16})
    model.max_seq_length = length
    found = []
    for batch in (32, 128):
        model.encode(texts[:batch], batch_size=batch)
        started = time.perf_counter()
        model.encode(texts[:count], batch_size=batch, convert_to_sparse_tensor=True)
        found.append((min(count, len(texts)) / (time.perf_counter() - started), batch))
    return max(found)


def model_flops(encoder: Any, texts: list[str]) -> tuple[float, int]:
    """Operations of the products for all texts, head included, and their tokens."""
    from splade_es.encoders.batches import BatchTokenizer

    lengths = BatchTokenizer(encoder.model, encoder.max_length)(texts).lengths
    tokens = sum(lengths)
    config = encoder.model.mlm.config
    dim, layers = config.hidden_size, config.num_hidden_layers
    a_token = layers * (4 * dim**2 + 2 * dim * config.intermediate_size) + dim**2
    a_token += encoder.model.decoder.weight.numel()
    return 2.0 * a_token * tokens + 4.0 * layers * dim * sum(n * n for n in lengths), tokens


def to_parquet(encoder: Any, documents: list[Any], folder: str) -> Iterator[object]:
    from splade_es.data.rejects import rejects_file
    from splade_es.encoders.base import make_index_meta
    from splade_es.quantize import Quantizer
    from splade_es.vectors.encode import encode_documents
    from splade_es.vectors.writer import VectorWriter

    quantizer = Quantizer()
    with tempfile.TemporaryDirectory(dir=folder) as path, contextlib.ExitStack() as stack:
        rejects = stack.enter_context(rejects_file(Path(path, "rejects"), False))
        meta = make_index_meta(encoder, quantizer.scale)
        writer = VectorWriter(
            Path(path, "vectors"), encoder.vocabulary, meta, quantizer, encoder.precision
        )
        stack.callback(writer.close)
        for item in encode_documents(iter(documents), encoder, quantizer, rejects):
            writer.add(item)
            yield item
        writer.finish()


def to_bodies(encoder: Any, documents: list[Any], folder: str) -> Iterator[object]:
    """As a load does: two threads make the bodies of requests, and so many may wait."""
    from splade_es.data.rejects import rejects_file
    from splade_es.engines.transport import bulk_lines
    from splade_es.indexing.bulk_actions import ActionBuilder, LoadRequest
    from splade_es.quantize import Quantizer
    from splade_es.vectors.encode import encode_documents

    quantizer = Quantizer()
    builder = ActionBuilder(encoder.vocabulary, quantizer.settings, encoder.name)

    def body(items: list[Any]) -> int:
        actions = LoadRequest(items, 0, builder).actions()
        return len(b"\n".join(line for action in actions for line in bulk_lines(action)))

    waiting: deque[Future[int]] = deque()
    with (
        tempfile.TemporaryDirectory(dir=folder) as path,
        rejects_file(Path(path, "rejects"), False) as rejects,
        ThreadPoolExecutor(2) as pool,
    ):
        encoded = encode_documents(iter(documents), encoder, quantizer, rejects)
        while items := list(itertools.islice(encoded, BODY_DOCUMENTS)):
            waiting.append(pool.submit(body, items))
            if len(waiting) > 2:
                waiting.popleft().result()
            yield items
        for future in waiting:
            future.result()


def train(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A training step beside sentence-transformers' trainer, from the same weights and batches."""
    import train as bench

    size, batch, length, steps = "bert-base", 128, 256, 14
    if args.small:
        size, batch, length, steps = "tiny", 4, 32, 4
    settings: Any = SimpleNamespace(
        folder=args.folder, pairs=args.pairs, model=str(Path(args.folder, size)), length=length,
        batch=batch, steps=steps,
    )  # fmt: skip
    bench.prepare(settings)
    rows: list[dict[str, Any]] = []
    for name in ("theirs", "ours"):
        results, peak_mb = bench.run(settings, name, steps)
        seconds = statistics.median(seconds for seconds, _ in results[2:])
        rows.append(
            {"trainer": bench.TITLES[name], "seconds_per_step": seconds, "peak_mb": peak_mb,
             "losses": [round(loss, 3) for _, loss in results]}
        )  # fmt: skip
    rows[1]["ratio"] = rows[0]["seconds_per_step"] / rows[1]["seconds_per_step"]
    return rows


def tests(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The tests of tests/gpu."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider",
               "-W", "ignore", str(ROOT / "tests" / "gpu")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return [{"passed": done.returncode == 0, "summary": lines[-1], "failed": failed}]


def show(part: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{part}")
    for row in rows:
        cells = []
        for name, value in row.items():
            if isinstance(value, float):
                share = name.startswith("of_") or name == "active_share"
                value = f"{value:.0%}" if share else f"{value:,.4g}"
            cells.append(f"{name.replace('_', ' ')} {value}")
        print("  " + ", ".join(cells), flush=True)


def prepare(args: argparse.Namespace) -> None:
    """Texts, pairs and models in the folder."""
    from random_model import write_model
    from splade_es.cli.demo_data import write_demo
    from splade_es.data.corpus import read_documents
    from splade_es.records import Document

    if not (args.corpus and args.pairs):
        write_demo(args.folder)
        args.corpus = args.corpus or str(Path(args.folder, "corpus.jsonl"))
        args.pairs = args.pairs or str(Path(args.folder, "train.jsonl"))
    items = itertools.islice(read_documents(args.corpus), 3000)
    texts = [item.body for item in items if isinstance(item, Document)]
    for size in ("tiny",) if args.small else ("minilm", "bert-base"):
        write_model(texts, Path(args.folder, size), size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus")
    parser.add_argument("--pairs")
    parser.add_argument("--output")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.small = args.small or not torch.cuda.is_available()
    if args.part:
        run, *size = args.part.split()
        found = globals()[run](args, *(["tiny"] if args.small and size else size))
        Path(args.folder, "rows.json").write_text(json.dumps(found))
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as args.folder:
        prepare(args)
        for part in args.parts.split(","):
            command = [
                sys.executable, "-W", "ignore", __file__, "--part", part, "--folder", args.folder,
                "--corpus", args.corpus, "--pairs", args.pairs,
            ]  # fmt: skip
            command += ["--small"] if args.small else []
            started = time.perf_counter()
            try:
                subprocess.run(
                    command, check=True, timeout=PARTS[part], capture_output=True, text=True
                )
                results[part] = json.loads(Path(args.folder, "rows.json").read_text())
            except subprocess.TimeoutExpired:
                results[part] = [{"failed": f"after {PARTS[part]} s it had not ended"}]
            except subprocess.CalledProcessError as error:
                results[part] = [{"failed": error.stderr.strip()[-1500:]}]
            show(f"{part} ({time.perf_counter() - started:.0f} s)", results[part])
            if args.output:  # what is known is kept
                Path(args.output).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
