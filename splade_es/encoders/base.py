"""What every encoder offers: texts in, sparse rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

from splade_es.errors import QueryError
from splade_es.features import CODEC, feature_names, vocabulary_sha256
from splade_es.index_meta import IndexMeta
from splade_es.models.files import fingerprint, read_sides
from splade_es.records import SparseRow
from splade_es.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Self

#: Number format of the encoder's products. auto is bf16 where the hardware multiplies it faster
#: than float32, otherwise fp32; int8 is for x86 CPUs.
Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16", "int8"]


class TextEncoder(ABC):
    """One side of a SPLADE model, ready to encode: what every encoder offers.

    Attributes
    ----------
    name : str
        Directory or hub name of the whole model.
    vocabulary : list of str
        The token of each vocabulary id.
    max_length : int
        Tokens of a text; a longer text is cut.
    pooling : str
        "max" or "sum" over the tokens of a text.
    side : {"document", "query"}
        What it encodes.
    precision : Precision
        Number format of the products, as it was asked for.
    """

    name: str
    vocabulary: list[str]
    max_length: int
    pooling: str
    side: Literal["document", "query"] = "document"
    precision: Precision = "auto"

    @abstractmethod
    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        """Encode texts, in order.

        Parameters
        ----------
        texts : iterable of str
            May be endless: they are read as rows are taken.
        with_sources : bool
            Also tell which input token caused each weight, see `SparseRow`.

        Yields
        ------
        SparseRow
            One for each text. A text without any token of its own gives an empty row.

        Raises
        ------
        TypeError
            `texts` is a single text. Raised at the call.
        ModelError
            The memory is too small for one text, or a process that encodes has ended.
        """

    @abstractmethod
    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return (start, end) characters of each token: `SparseRow.sources` are positions in it."""

    def tokens(self, row: SparseRow) -> dict[str, float]:
        """Return token -> weight of a row, the largest first; of equal weights the smaller id."""
        pairs = sorted(
            zip(row.ids.tolist(), row.weights.tolist(), strict=True),
            key=lambda pair: (-pair[1], pair[0]),
        )
        return {self.vocabulary[id]: weight for id, weight in pairs}

    def close(self) -> None:  # noqa: B027 - most encoders have nothing to close
        """End the processes that the encoder has started, if any. Safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def make_index_meta(encoder: TextEncoder, scale: float) -> IndexMeta:
    """Describe how the vectors of an index are made.

    Parameters
    ----------
    encoder : TextEncoder
        Either side of the model. Only the document side is described: the query side may be
        replaced by a better one later, while the documents stay as they are.
    scale : float
        Stored integer = round(weight x scale).

    Raises
    ------
    ModelError
        The vocabulary has tokens that cannot be features.
    """
    feature_names(encoder.vocabulary)
    documents = read_sides(encoder.name).document
    return IndexMeta(
        toolkit=__version__,
        model=encoder.name,
        fingerprint=fingerprint(documents.path),
        vocabulary=vocabulary_sha256(encoder.vocabulary),
        codec=CODEC,
        scale=scale,
        max_length=encoder.max_length,
        pooling=documents.pooling_rule,
    )


def check_text(text: str) -> None:
    """Raise QueryError for a text that is not UTF-8, as an argument of a command may be."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(
            f"The text is not UTF-8 at character {error.start + 1}",
            "Set the terminal, or the script, to UTF-8.",
        ) from error
