"""Encoding documents against sentence-transformers' SparseEncoder: rate, memory, likeness, limit.

    python tests/bench/encode.py --model DIR --corpus CORPUS [--count 2000] [--length 128]
        [--modes st,st-onnx,st-openvino,fp32,bf16,int8] [--peer-python PYTHON]

The same checkpoint, texts and length in each mode, each in a process of its own, one after the
other. st-onnx and st-openvino are its 8-bit backends, which need
`pip install 'sentence-transformers[onnx,openvino]'`, in another environment if they cannot share
one with splade-es (--peer-python).

docs/s: of all documents, after 32 others to warm up; peak MB: of the resident set, with weights and
torch; cosine: the mean over the documents of the cosine with our vectors in fp32; GEMM: the
share of the time that the products of the encoder and of the head would take alone, at the rate of
float32 products of these shapes measured in the same process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TITLES = {
    "st": "sentence-transformers, torch fp32",
    "st-onnx": "sentence-transformers, ONNX int8",
    "st-openvino": "sentence-transformers, OpenVINO int8",
    "fp32": "splade-es, fp32",
    "bf16": "splade-es, bf16",
    "int8": "splade-es, int8",
}
WARM_UP = 32


def ours(args: argparse.Namespace, texts: list[str]) -> tuple[float, list[Any]]:
    from splade_es.encoders.allocator import keep_freed_memory
    from splade_es.encoders.torch_encoder import Encoder

    keep_freed_memory()  # as the commands do
    encoder = Encoder.load(args.model, args.length, precision=args.one)
    list(encoder.encode(texts[:WARM_UP]))
    started = time.perf_counter()
    rows = list(encoder.encode(texts[WARM_UP:]))
    return time.perf_counter() - started, [(row.ids, row.weights) for row in rows]


def theirs(args: argparse.Namespace, texts: list[str]) -> tuple[float, list[Any]]:
    from sentence_transformers import SparseEncoder

    exported = Path(args.folder, "exported")
    if args.one == "st":
        model = SparseEncoder(args.model, device="cpu")
    elif args.one == "st-onnx":
        from sentence_transformers import export_dynamic_quantized_onnx_model

        model = SparseEncoder(args.model, device="cpu", backend="onnx")
        model.save_pretrained(str(exported))
        import torch

        kind, bits = (
            ("avx512_vnni", "qint8") if torch.cpu._is_vnni_supported() else ("avx2", "quint8")
        )
        export_dynamic_quantized_onnx_model(model, kind, str(exported))
        file = {"file_name": f"onnx/model_{bits}_{kind}.onnx"}
        model = SparseEncoder(str(exported), device="cpu", backend="onnx", model_kwargs=file)
    else:
        from sentence_transformers import export_static_quantized_openvino_model

        model = SparseEncoder(args.model, device="cpu", backend="openvino")
        model.save_pretrained(str(exported))
        calibration = Path(args.folder, "calibration")  # texts that are not measured
        calibration.mkdir()
        lines = [json.dumps({"text": text}) + "\n" for text in texts[:WARM_UP] * 10]
        Path(calibration, "train.jsonl").write_text("".join(lines))
        export_static_quantized_openvino_model(
            model, None, str(exported), str(calibration), "default", "train", "text"
        )
        file = {"file_name": "openvino/openvino_model_qint8_quantized.xml"}
        model = SparseEncoder(str(exported), device="cpu", backend="openvino", model_kwargs=file)
    model.max_seq_length = args.length
    model.encode(texts[:WARM_UP], batch_size=32)
    started = time.perf_counter()
    vectors = model.encode(texts[WARM_UP:], batch_size=32, convert_to_sparse_tensor=True)
    seconds = time.perf_counter() - started
    rows = []
    for vector in vectors:
        vector = vector.coalesce()
        rows.append((vector.indices()[0].numpy(), vector.values().numpy()))
    return seconds, rows


def products(args: argparse.Namespace, tokens: int) -> float:
    """Seconds that the products of so many tokens would take alone, in float32."""
    import torch

    config = json.loads(Path(args.model, "config.json").read_text())
    dim, inner = config["hidden_size"], config["intermediate_size"]
    layers, size = config["num_hidden_layers"], config["vocab_size"]
    seconds = 0.0
    shapes = [(dim, dim, 4 * layers + 1), (dim, inner, layers), (inner, dim, layers)]
    for wide, high, times in [*shapes, (dim, size, 1)]:
        x, w = torch.randn(4096, wide), torch.randn(min(high, 2048), wide)
        out = torch.empty(4096, len(w))
        runs = []
        for _ in range(5):
            started = time.perf_counter()
            torch.mm(x, w.T, out=out)
            runs.append(time.perf_counter() - started)
        seconds += min(runs) * times * high / len(w) * tokens / 4096
    return seconds


def one(args: argparse.Namespace) -> None:
    texts = json.loads(Path(args.folder, "texts.json").read_text())
    seconds, rows = (theirs if args.one.startswith("st") else ours)(args, texts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result: dict[str, float | None] = {"seconds": seconds, "peak": peak, "threads": os.cpu_count()}
    if not args.one.startswith("st"):
        from splade_es.encoders.torch_encoder import Encoder

        tokenizer = Encoder.load(args.model, args.length).model.tokenizer
        ids = tokenizer(texts[WARM_UP:], truncation=True, max_length=args.length)["input_ids"]
        tokens = sum(map(len, ids))
        result |= {"tokens": tokens, "products": products(args, tokens)}
    ends = np.cumsum([0, *(len(ids) for ids, _ in rows)])
    np.savez(
        Path(args.folder, args.one), ends=ends,
        ids=np.concatenate([ids for ids, _ in rows]), values=np.concatenate([v for _, v in rows]),
    )  # fmt: skip
    Path(args.folder, f"{args.one}.json").write_text(json.dumps(result))


def cosine(folder: str, mode: str) -> float:
    def load(name: str) -> list[dict[int, float]]:
        with np.load(Path(folder, f"{name}.npz")) as file:
            pairs = list(zip(file["ids"].tolist(), file["values"].tolist(), strict=True))
            return [dict(pairs[a:b]) for a, b in itertools.pairwise(file["ends"].tolist())]

    found = []
    for a, b in zip(load("fp32"), load(mode), strict=True):
        dot = sum(value * b.get(id, 0.0) for id, value in a.items())
        norms = np.linalg.norm(list(a.values())) * np.linalg.norm(list(b.values()))
        found.append(float(dot / norms) if norms else float(len(a) == len(b)))
    return statistics.mean(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--modes", default="st,fp32,int8")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args)
        return
    modes = args.modes.split(",")
    from splade_es.data.corpus import read_documents
    from splade_es.records import Document

    documents = itertools.islice(read_documents(args.corpus), args.count + WARM_UP)
    texts = [d.body for d in documents if isinstance(d, Document)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "texts.json").write_text(json.dumps(texts))
        for mode in modes:
            python = args.peer_python if mode.startswith("st") else sys.executable
            subprocess.run(
                [python, "-W", "ignore", __file__, "--one", mode, "--folder", folder,
                 "--model", args.model, "--corpus", args.corpus,
                 "--count", str(args.count), "--length", str(args.length)],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        results = {m: json.loads(Path(folder, f"{m}.json").read_text()) for m in modes}
        tokens = results["fp32"]["tokens"]
        print(
            f"{args.count} documents of {args.corpus}, {tokens / args.count:.0f} tokens each, at "
            f"most {args.length}; {results['fp32']['threads']} threads\n"
            f"{'':38}{'docs/s':>8}{'ratio':>7}{'peak MB':>9}{'cosine':>8}{'GEMM':>6}"
        )
        base = results[modes[0]]
        for mode, result in results.items():
            share = f"{result['products'] / result['seconds']:.0%}" if "products" in result else ""
            print(
                f"{TITLES[mode]:38}{args.count / result['seconds']:8.1f}"
                f"{base['seconds'] / result['seconds']:7.2f}{result['peak']:9.0f}"
                f"{cosine(folder, mode):8.4f}{share:>6}"
            )


if __name__ == "__main__":
    main()
