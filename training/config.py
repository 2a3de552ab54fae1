"""The settings of a training run: one frozen dataclass, checked where it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from splade_es.models.files import Activation, Pooling
from splade_es.training import config_rules as rules
from splade_es.training.config_rules import Kind, Regularizer, SideConfig
from splade_es.training.settings import (
    COUNT,
    DATA,
    MODEL,
    NOT_NEGATIVE,
    POSITIVE,
    RANKING,
    RUN,
    SCHEDULE,
    SPARSITY,
    Range,
    StrPath,
    check_settings,
    describe,
    document,
    setting,
)

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_LENGTH = Range("at least 3", 3)


@document
@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run.

    `data`, `model` and `output` are required; everything else has a default. Steps are optimizer
    steps. Some settings are made for each side: `query` and `doc` show them side by side, as a
    `SideConfig` each.

    Raises
    ------
    TypeError
        A value has the wrong type.
    TrainingError
        A value is out of range, or two settings contradict each other.
    """

    data: StrPath = field(metadata=describe(DATA, "Training data: a file or a folder."))
    model: StrPath = field(
        metadata=describe(
            MODEL,
            "Masked language model to start from: a directory, or a name of the Hugging Face hub.",
        )
    )
    output: StrPath = field(
        metadata=describe(RUN, "Directory for the trained model and for checkpoints.")
    )
    kind: Kind = setting(
        "splade", MODEL,
        "How texts are encoded. splade: queries and documents by one encoder; separate: by one "
        "encoder each; doc: a query is its own tokens, each with weight 1; idf: a query is its own "
        "tokens, weighted by a table; lexical: by one encoder, without expansion.",
        choices=get_args(Kind),
    )  # fmt: skip
    query_model: StrPath | None = setting(
        None, MODEL,
        "Masked language model that the query encoder starts from, for kind separate. By default "
        "it is the one that the document encoder starts from.",
    )  # fmt: skip
    freeze_documents: bool = setting(
        False, MODEL,
        "For the kinds separate and idf: do not train the document encoder, so that an index made "
        "with it stays valid.",
    )  # fmt: skip
    idf: StrPath | None = setting(
        None, MODEL,
        'JSON file {"token": weight, ...} with the table of kind idf. By default it is the table '
        "of the model, or an inverse document frequency that is counted in the corpus.",
    )  # fmt: skip
    learn_idf: bool = setting(False, MODEL, "Train the table of kind idf, too.")
    idf_lr: float = setting(
        1e-3, MODEL, "Peak learning rate of the table of kind idf.", POSITIVE, yaml_only=True
    )
    pooling: Pooling | None = setting(
        None, MODEL,
        "How the weights of all tokens of a text become one vector: by their maximum or their sum. "
        "By default as the model has it.",
        choices=get_args(Pooling),
    )  # fmt: skip
    activation: Activation | None = setting(
        None, MODEL,
        "How a logit becomes a weight: relu takes the logarithm of 1 plus its positive part, "
        "log1p_relu takes it twice. By default as the model has it.",
        choices=get_args(Activation),
    )  # fmt: skip
    format: str | None = setting(
        None, DATA,
        "Format of the training data: splade-es, yast, opensearch, sentence-transformers, beir, "
        "light-splade or naver. By default it is recognized from the path and the first row.",
    )  # fmt: skip
    corpus: StrPath | None = setting(
        None, DATA, "BEIR folder with the texts that the training data names by id."
    )
    negatives: int | None = setting(
        None, DATA, "Hard negatives to draw for each query. By default all are used.", COUNT
    )
    query_length: int = setting(32, DATA, "Tokens of a query; further ones are cut.", _LENGTH)
    doc_length: int = setting(128, DATA, "Tokens of a document; further ones are cut.", _LENGTH)
    dev: StrPath | None = setting(
        None, DATA,
        "BEIR folder to evaluate the model on during training. The output is then the best "
        "checkpoint, otherwise the last one.",
    )  # fmt: skip
    dev_split: str = setting(
        "dev", DATA, "Judgements of the dev set, qrels/SPLIT.tsv.", yaml_only=True
    )
    dev_documents: int = setting(
        2000, DATA,
        "Documents of the dev set that are searched beside all those with a judgement.",
        NOT_NEGATIVE,
    )  # fmt: skip
    steps: int | None = setting(
        None, SCHEDULE, "Optimizer steps. By default 1000, or as many as the epochs need.", COUNT
    )
    epochs: float | None = setting(
        None, SCHEDULE, "Passes over the training data, instead of a number of steps.", POSITIVE
    )
    batch_size: int = setting(
        32, SCHEDULE, "Queries in a batch, over all processes together.", COUNT
    )
    accumulate: int = setting(1, SCHEDULE, "Batches in each optimizer step.", COUNT)
    mini_batch_tokens: int | None = setting(
        None, SCHEDULE,
        "Encode this many tokens at a time with gradient caching: the same gradient, with less "
        "memory and more time. By default there is no gradient caching.",
        COUNT,
    )  # fmt: skip
    lr: float = setting(1e-4, SCHEDULE, "Peak learning rate of AdamW.", POSITIVE)
    embedding_lr: float | None = setting(
        None, SCHEDULE,
        "Peak learning rate of the token embeddings; 0 freezes them. By default it is that of all "
        "other weights.",
        NOT_NEGATIVE, yaml_only=True,
    )  # fmt: skip
    warmup: float = setting(
        0.1, SCHEDULE, "Share of the steps in which the learning rate rises to its peak.",
        Range("at least 0 and below 1", 0, 1), yaml_only=True,
    )  # fmt: skip
    weight_decay: float = setting(
        0.01, SCHEDULE, "Weight decay of AdamW, for matrices.", NOT_NEGATIVE, yaml_only=True
    )
    clip: float = setting(
        1.0, SCHEDULE, "Largest norm of a gradient; a larger one is scaled down to it.", POSITIVE,
        yaml_only=True,
    )  # fmt: skip
    patience: int | None = setting(
        None, SCHEDULE, "Stop after this many evaluations on the dev set without a better one.",
        COUNT,
    )  # fmt: skip
    loss: str = setting(
        "infonce", RANKING,
        "infonce, or margin_mse or kl, which need the scores of a teacher; or a weighted sum such "
        "as kl=1,margin_mse=0.05.",
    )  # fmt: skip
    temperature: float = setting(
        1.0, RANKING, "The loss infonce divides the scores by this.", POSITIVE, yaml_only=True
    )
    kl_temperature: float = setting(
        1.0, RANKING, "The loss kl divides the scores of the model and of the teacher by this.",
        POSITIVE, yaml_only=True,
    )  # fmt: skip
    false_negative_margin: float | None = setting(
        None, RANKING,
        "The loss infonce leaves out a negative whose score of the teacher is above that of the "
        "positive minus this margin. By default it leaves out none.",
        yaml_only=True,
    )  # fmt: skip
    doc_terms: float | None = setting(
        None, SPARSITY,
        "Active terms of a document to reach on average. The weight of the regularizer is adjusted "
        "during training to reach them.",
        POSITIVE,
    )  # fmt: skip
    query_terms: float | None = setting(
        None, SPARSITY,
        "Active terms of a query to reach on average. The weight of the regularizer is adjusted "
        "during training to reach them.",
        POSITIVE,
    )  # fmt: skip
    doc_regularizer: Regularizer = setting(
        "flops", SPARSITY,
        "Regularizer of document vectors. df_flops weighs a token by how many documents have it.",
        choices=get_args(Regularizer),
    )  # fmt: skip
    doc_lambda: float = setting(
        3e-3, SPARSITY,
        "Weight of the regularizer of documents. If it is adjusted, it starts with this.",
        NOT_NEGATIVE,
    )  # fmt: skip
    query_regularizer: Regularizer = setting(
        "flops", SPARSITY, "Regularizer of query vectors, as for documents.",
        choices=get_args(Regularizer),
    )  # fmt: skip
    query_lambda: float = setting(
        2e-3, SPARSITY,
        "Weight of the regularizer of queries. If it is adjusted, it starts with this.",
        NOT_NEGATIVE,
    )  # fmt: skip
    doc_threshold: int = setting(
        0, SPARSITY, "Documents with at most this many active terms are not regularized.",
        NOT_NEGATIVE, yaml_only=True,
    )  # fmt: skip
    query_threshold: int = setting(
        0, SPARSITY, "Queries with at most this many active terms are not regularized.",
        NOT_NEGATIVE, yaml_only=True,
    )  # fmt: skip
    ramp: int = setting(
        0, SPARSITY,
        "Steps in which the weights of the regularizers grow quadratically from 0 to their value.",
        NOT_NEGATIVE,
    )  # fmt: skip
    ramp_delay: int = setting(
        0, SPARSITY, "Steps without regularizers, before the ramp.", NOT_NEGATIVE, yaml_only=True
    )
    df_alpha: float = setting(
        0.1, SPARSITY, "Regularizer df_flops: share of documents at which a token counts half.",
        Range("above 0 and below 1", 0, 1, above=True), yaml_only=True,
    )  # fmt: skip
    df_beta: float = setting(
        10.0, SPARSITY, "Regularizer df_flops: how steeply the weight of a token rises there.",
        POSITIVE, yaml_only=True,
    )  # fmt: skip
    df_every: int = setting(
        100, SPARSITY, "Regularizer df_flops: steps between two counts of document frequencies.",
        COUNT, yaml_only=True,
    )  # fmt: skip
    df_documents: int = setting(
        500, SPARSITY, "Regularizer df_flops: documents of the corpus, or positives, to count in.",
        COUNT, yaml_only=True,
    )  # fmt: skip
    df_index: str | None = setting(
        None, SPARSITY, "Index to take the document frequencies of the regularizer df_flops from."
    )
    anti_zero: float = setting(
        0.0, SPARSITY, "Weight of a penalty on vectors that are nearly empty.", NOT_NEGATIVE,
        yaml_only=True,
    )  # fmt: skip
    noise_lambda: float = setting(
        0.0, SPARSITY, "Weight of a penalty on punctuation among the active terms.", NOT_NEGATIVE,
        yaml_only=True,
    )  # fmt: skip
    precision: Precision = setting(
        "auto", RUN, "Number format of the encoder; auto is bf16 where the hardware is fast at it.",
        choices=get_args(Precision),
    )  # fmt: skip
    seed: int = setting(0, RUN, "Seed of the order of the data, of its draws, and of dropout.")
    log_every: int = setting(10, RUN, "Steps between two log lines.", COUNT)
    save_every: int = setting(
        100, RUN, "Steps between two checkpoints, and between two evaluations.", COUNT
    )
    tensorboard: StrPath | None = setting(None, RUN, "Directory for TensorBoard logs.")

    def __post_init__(self) -> None:
        check_settings(self)
        rules.check_losses(self.losses, self.batch_size)
        rules.check_duration(self.steps, self.epochs)
        rules.check_kind(
            self.kind, query_model=self.query_model is not None, learn_idf=self.learn_idf,
            freeze_documents=self.freeze_documents, idf=self.idf is not None,
        )  # fmt: skip
        for side in (self.query, self.doc):
            rules.check_terms(side)
        rules.check_ramp(self.query, self.doc, self.ramp, self.ramp_delay)
        rules.check_patience(self.patience, self.dev)
        rules.check_df_index(self.df_index, self.query, self.doc)

    @property
    def losses(self) -> dict[str, float]:
        """The weight of each ranking loss in `loss`."""
        return rules.parse_loss(self.loss)

    @property
    def query(self) -> SideConfig:
        """The settings of queries."""
        trained = self.kind != "doc" and (self.kind != "idf" or self.learn_idf)
        return SideConfig(
            "query", "queries", trained, self.query_length, self.query_terms,
            self.query_regularizer, self.query_lambda, self.query_threshold,
        )  # fmt: skip

    @property
    def doc(self) -> SideConfig:
        """The settings of documents."""
        return SideConfig(
            "doc", "documents", not self.freeze_documents, self.doc_length, self.doc_terms,
            self.doc_regularizer, self.doc_lambda, self.doc_threshold,
        )  # fmt: skip
