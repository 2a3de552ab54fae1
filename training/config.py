"""The settings of a training run: one frozen dataclass, checked where it is made.

The command's options, their defaults and the YAML keys are read from its fields, so each number
stands here and nowhere else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from splade_es.errors import TrainingError

Loss = Literal["infonce", "margin_mse", "kl"]
QueryRegularizer = Literal["flops", "l1"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


def _doc(text: str, default: Any) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `loop.train`. Steps are optimizer steps. Raises TrainingError for a bad value."""

    data: str
    model: str
    output: str
    dev: str | None = _doc("BEIR folder to evaluate on while training.", None)
    dev_split: str = _doc("Split of --dev.", "dev")
    dev_documents: int = _doc("Judged documents of --dev and this many others are searched.", 2000)
    steps: int = _doc("Optimizer steps.", 1000)
    batch_size: int = _doc("Queries in a batch.", 32)
    accumulate: int = _doc("Batches before one optimizer step.", 1)
    lr: float = _doc("Peak learning rate of AdamW.", 1e-4)
    warmup: float = _doc("Share of the steps in which the learning rate rises.", 0.1)
    weight_decay: float = _doc("Weight decay of AdamW, for matrices.", 0.01)
    clip: float = _doc("Largest norm of a gradient.", 1.0)
    query_length: int = _doc("Tokens of a query.", 32)
    document_length: int = _doc("Tokens of a document.", 128)
    loss: Loss = _doc("Ranking loss; margin_mse and kl need scores.", "infonce")
    temperature: float = _doc("Divides the scores of infonce and kl.", 1.0)
    document_flops: float = _doc("Weight of the documents' FLOPS.", 3e-3)
    query_flops: float = _doc("Weight of the queries' regularizer.", 2e-3)
    query_regularizer: QueryRegularizer = _doc("Regularizer of queries.", "flops")
    ramp: int = _doc("Steps in which the regularizers grow quadratically to their weight.", 0)
    precision: Precision = _doc("auto: bf16 where the hardware has it.", "auto")
    seed: int = _doc("Seed of the order of the data and of dropout.", 0)
    log_every: int = _doc("Steps between two log lines.", 10)
    save_every: int = _doc("Steps between two checkpoints and dev evaluations.", 100)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "save_every"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("lr", "clip", "temperature"):
            self._check(name, 0 < getattr(self, name) < float("inf"), "above 0")
        for name in ("weight_decay", "document_flops", "query_flops", "ramp", "dev_documents"):
            self._check(name, 0 <= getattr(self, name) < float("inf"), "0 or more")
        self._check("warmup", 0 <= self.warmup < 1, "at least 0 and below 1")
        for name in ("query_length", "document_length"):
            self._check(name, getattr(self, name) >= 3, "at least 3")
        for name, kind in (
            ("loss", Loss), ("query_regularizer", QueryRegularizer), ("precision", Precision),
        ):  # fmt: skip
            choices = get_args(kind)
            self._check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        if self.loss == "infonce":
            self._check("batch_size", self.batch_size >= 2, "at least 2: infonce compares texts")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise TrainingError(f"{name} must be {wanted}, not {getattr(self, name)}")


def read_config(path: str) -> dict[str, Any]:
    """The settings a YAML file names. Raises TrainingError for unknown names or wrong types."""
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}", "Give a YAML file.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date, say
        raise TrainingError(
            f"{path}: no YAML ({error})", "Write lines of `name: value`."
        ) from error
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: no settings in it", "Write lines of `name: value`.")
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    for name, value in values.items():
        if name not in fields:
            raise TrainingError(
                f"{path}: there is no setting {name!r}", f"There are: {', '.join(fields)}."
            )
        values[name] = _typed(path, name, value, fields[name])
    return values


def _typed(path: str, name: str, value: Any, field: dataclasses.Field[Any]) -> Any:
    kind = {"int": int, "float": float}.get(str(field.type), str)
    # YAML reads 1e-4 (without a dot) as text, and bool is an int to Python
    try:
        if isinstance(value, bool) or (kind is int and float(value) != int(float(value))):
            raise ValueError
        return value if value is None and field.default is None else kind(value)
    except (TypeError, ValueError, OverflowError):
        raise TrainingError(
            f"{path}: {name} must be {'text' if kind is str else f'a number ({kind.__name__})'}, "
            f"not {value!r}"
        ) from None
