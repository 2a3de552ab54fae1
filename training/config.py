"""The settings of a training run: one frozen dataclass, checked where it is made.

The command's options, their defaults and the YAML keys are read from its fields, so each number
stands here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from splade_es.errors import TrainingError
from splade_es.models.files import Activation, Pooling

Kind = Literal["splade", "separate", "doc", "idf", "lexical"]
Regularizer = Literal["flops", "l1", "df_flops"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
LOSS_NAMES = ("infonce", "margin_mse", "kl")
#: Losses that compare with a teacher's scores.
DISTILLING = frozenset({"margin_mse", "kl"})


def _doc(text: str, default: Any) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `loop.train`. Steps are optimizer steps. Raises TrainingError for a bad value."""

    data: str
    model: str
    output: str
    # what is trained
    kind: Kind = _doc(
        "One encoder; separate ones for queries and documents; queries as their own tokens (doc), "
        "or these weighted by a table (idf); no expansion (lexical).",
        "splade",
    )
    query_model: str | None = _doc("What the query encoder of `separate` starts from.", None)
    freeze_documents: bool = _doc("Leave the document encoder as it is.", False)
    idf: str | None = _doc("idf.json with a weight for each token; else it is counted.", None)
    learn_idf: bool = _doc("Train the table of `idf` as well.", False)
    idf_lr: float = _doc("Peak learning rate of that table.", 1e-3)
    pooling: Pooling | None = _doc("Over the tokens of a text; else as in --model.", None)
    activation: Activation | None = _doc("log1p_relu takes the logarithm twice.", None)
    # on what
    format: str | None = _doc("Format of the training data; else it is found out.", None)
    corpus: str | None = _doc("BEIR folder whose ids the training data names.", None)
    negatives: int | None = _doc("Hard negatives drawn for a query; else all there are.", None)
    dev: str | None = _doc("BEIR folder to evaluate on while training.", None)
    dev_split: str = _doc("Split of --dev.", "dev")
    dev_documents: int = _doc("Judged documents of --dev and this many others are searched.", 2000)
    # how long, how fast
    steps: int | None = _doc("Optimizer steps; 1000 without --epochs.", None)
    epochs: float | None = _doc("Passes over the data, instead of steps.", None)
    batch_size: int = _doc("Queries in a batch, over all processes.", 32)
    accumulate: int = _doc("Batches before one optimizer step.", 1)
    mini_batch_tokens: int | None = _doc(
        "Encode so many tokens at a time, with gradient caching: the same result, less memory.",
        None,
    )
    lr: float = _doc("Peak learning rate of AdamW.", 1e-4)
    embedding_lr: float | None = _doc("That of the token embeddings; 0 freezes them.", None)
    warmup: float = _doc("Share of the steps in which the learning rate rises.", 0.1)
    weight_decay: float = _doc("Weight decay of AdamW, for matrices.", 0.01)
    clip: float = _doc("Largest norm of a gradient.", 1.0)
    patience: int | None = _doc("Stop after so many dev evaluations without a better one.", None)
    query_length: int = _doc("Tokens of a query.", 32)
    doc_length: int = _doc("Tokens of a document.", 128)
    # the ranking loss
    loss: str = _doc(
        "infonce, or margin_mse and kl, which need scores; a sum as kl=1,margin_mse=0.05.",
        "infonce",
    )
    temperature: float = _doc("Divides the scores of infonce.", 1.0)
    kl_temperature: float = _doc("Divides the scores of kl, the teacher's too.", 1.0)
    false_negative_margin: float | None = _doc(
        "Negatives scored above the positive less this by the teacher are none to infonce.", None
    )
    # sparsity
    doc_terms: float | None = _doc("Active terms of a document to reach; steers doc_lambda.", None)
    query_terms: float | None = _doc("Active terms of a query to reach; steers query_lambda.", None)
    doc_regularizer: Regularizer = _doc("Regularizer of documents.", "flops")
    doc_lambda: float = _doc("Its weight, or the first one where doc_terms is given.", 3e-3)
    query_regularizer: Regularizer = _doc("Regularizer of queries.", "flops")
    query_lambda: float = _doc("Its weight, or the first one where query_terms is given.", 2e-3)
    doc_threshold: int = _doc("Documents of no more active terms are not regularized.", 0)
    query_threshold: int = _doc("Queries of no more active terms are not regularized.", 0)
    ramp: int = _doc("Steps in which the regularizers grow quadratically to their weight.", 0)
    ramp_delay: int = _doc("Steps before that, without regularizers.", 0)
    df_alpha: float = _doc("df_flops: share of documents at which a token weighs half.", 0.1)
    df_beta: float = _doc("df_flops: how sharply it rises there.", 10.0)
    df_every: int = _doc("df_flops: steps between two counts of document frequencies.", 100)
    df_documents: int = _doc(
        "df_flops: documents of --corpus, or positives, that are counted.", 500
    )
    df_index: str | None = _doc("df_flops: count them in this index instead, as it stands.", None)
    anti_zero: float = _doc("Weight of what keeps a batch from falling silent.", 0.0)
    noise_lambda: float = _doc("Weight of a penalty on punctuation as a term.", 0.0)
    # the run
    precision: Precision = _doc("auto: bf16 where the hardware has it.", "auto")
    seed: int = _doc("Seed of the order of the data and of dropout.", 0)
    log_every: int = _doc("Steps between two log lines.", 10)
    save_every: int = _doc("Steps between two checkpoints and dev evaluations.", 100)
    tensorboard: str | None = _doc("Directory for TensorBoard scalars.", None)

    def __post_init__(self) -> None:
        for name in (
            "steps", "batch_size", "accumulate", "log_every", "save_every", "patience", "negatives",
            "mini_batch_tokens", "df_every", "df_documents",
        ):  # fmt: skip
            self._check(name, getattr(self, name) is None or getattr(self, name) >= 1, "at least 1")
        for name in (
            "lr", "clip", "temperature", "kl_temperature", "idf_lr", "epochs", "doc_terms",
            "query_terms", "df_beta",
        ):  # fmt: skip
            value = getattr(self, name)
            self._check(name, value is None or 0 < value < float("inf"), "above 0")
        for name in (
            "weight_decay", "doc_lambda", "query_lambda", "ramp", "ramp_delay", "dev_documents",
            "embedding_lr", "doc_threshold", "query_threshold", "anti_zero", "noise_lambda",
        ):  # fmt: skip
            value = getattr(self, name)
            self._check(name, value is None or 0 <= value < float("inf"), "0 or more")
        self._check("warmup", 0 <= self.warmup < 1, "at least 0 and below 1")
        self._check("df_alpha", 0 < self.df_alpha < 1, "above 0 and below 1")
        for name in ("query_length", "doc_length"):
            self._check(name, getattr(self, name) >= 3, "at least 3")
        for name, kind in get_type_hints(type(self)).items():
            choices = [choice for part in (kind, *get_args(kind)) for choice in get_args(part)]
            choices = [choice for choice in choices if isinstance(choice, str)]
            if choices and getattr(self, name) is not None:
                self._check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        if "infonce" in self.losses:
            self._check("batch_size", self.batch_size >= 2, "at least 2: infonce compares texts")
        for side in ("doc", "query"):
            if getattr(self, f"{side}_terms") is not None:
                value = getattr(self, f"{side}_lambda")
                self._check(f"{side}_lambda", value > 0, f"above 0, to be steered by {side}_terms")
        if self.steps is not None and self.epochs is not None:
            raise TrainingError("Give steps or epochs, not both")
        if self.query_model is not None:
            self._check("kind", self.kind == "separate", "separate, to have a query_model")
        if self.freeze_documents:
            self._check("kind", self.kind in ("separate", "idf"), "separate or idf, to freeze it")
        if self.freeze_documents and self.kind == "idf" and not self.learn_idf:
            raise TrainingError("Nothing is left to train", "Add learn_idf.")
        for side, learns in (
            ("query", self.kind != "doc" and (self.kind != "idf" or self.learn_idf)),
            ("doc", not self.freeze_documents),
        ):
            terms, threshold = f"{side}_terms", f"{side}_threshold"
            if (target := getattr(self, terms)) is not None:
                self._check(terms, learns, "left out: this side does not learn")
                good = getattr(self, threshold) < target
                self._check(threshold, good, f"below {terms}: under it nothing is regularized")
        if self.query_terms is not None and self.doc_terms is not None:
            for name in ("ramp", "ramp_delay"):
                self._check(name, getattr(self, name) == 0, "0: targets of terms need no ramp")
        if self.patience is not None:
            self._check("patience", self.dev is not None, "left out where there is no dev set")
        if self.df_index is not None:
            kinds = (self.doc_regularizer, self.query_regularizer)
            self._check("df_index", "df_flops" in kinds, "left out without df_flops")
        if self.idf is not None or self.learn_idf:
            self._check("kind", self.kind == "idf", "idf, to have such a table")

    @property
    def losses(self) -> dict[str, float]:
        """Ranking loss -> its weight in the sum."""
        parts = {}
        for part in self.loss.split(","):
            name, given, weight = part.strip().partition("=")
            try:
                parts[name] = float(weight) if given else 1.0
            except ValueError:
                parts[name] = -1.0
            good = name in LOSS_NAMES and 0 < parts[name] < float("inf")
            self._check("loss", good, f"a sum like kl=1,margin_mse=0.05 of {', '.join(LOSS_NAMES)}")
        return parts

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise TrainingError(f"{name} must be {wanted}, not {getattr(self, name)}")


def recipes() -> dict[str, str]:
    """Name -> path of each recipe that comes with the package."""
    folder = files("splade_es.training") / "recipes"
    return {Path(str(f)).stem: str(f) for f in folder.iterdir() if str(f).endswith(".yaml")}


def read_config(path: str) -> dict[str, Any]:
    """The settings a YAML file, or a recipe of that name, gives.

    Raises TrainingError for unknown names, saying which is the nearest, or wrong types.
    """
    import yaml

    if not Path(path).exists():
        path = recipes().get(path, path)
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise TrainingError(
            f"{path}: {error.strerror}",
            f"Give a YAML file, or a recipe: {', '.join(sorted(recipes()))}.",
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date, say
        raise TrainingError(
            f"{path}: no YAML ({error})", "Write lines of `name: value`."
        ) from error
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: no settings in it", "Write lines of `name: value`.")
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, 1)
            raise TrainingError(
                f"{path}: there is no setting {name!r}",
                f"Did you mean {near[0]}?" if near else f"There are: {', '.join(fields)}.",
            )
        values[name] = _typed(path, name, value, fields[name])
    return values


def _typed(path: str, name: str, value: Any, field: dataclasses.Field[Any]) -> Any:
    text = str(field.type).removesuffix(" | None")
    kind = {"int": int, "float": float, "bool": bool}.get(text, str)
    # YAML reads 1e-4 (without a dot) as text, and bool is an int to Python
    try:
        if value is None and field.default is None:
            return None
        if isinstance(value, bool) != (kind is bool):
            raise ValueError
        if kind is int and float(value) != int(float(value)):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        wanted = {int: "a number (int)", float: "a number (float)", bool: "true or false"}
        raise TrainingError(
            f"{path}: {name} must be {wanted.get(kind, 'text')}, not {value!r}"
        ) from None
