"""Every error that a user may see, in one tree.

    SpladeEsError
    ├── CorpusError          a file or line of input: the message starts with "path:line: "
    ├── ModelError           a model directory, hub name or tokenizer
    ├── SettingsError        a setting, or a combination of settings, that is invalid
    ├── TrainingError        training data or settings, or a loss that is no number
    ├── Interrupted          stopped by a signal, with everything saved that is needed to resume
    ├── QueryError           a query, a measure or a k that cannot be answered
    └── EngineError          the search engine refused
        ├── IndexMissing     the index does not exist
        ├── IndexExists      an index of this name already exists
        ├── IndexMismatch    the index was made by another model, or not by splade-es
        ├── IndexReplaced    the index was deleted and created again while it was written
        ├── NotPublished     a load is held back: its corpus does not look good enough
        ├── FieldTypeMissing the server has no such field type for the features
        ├── AccessDenied     401 or 403
        ├── RequestTooLarge  413: send less at once
        └── Unavailable      down, timed out, or 429/502/503/504: may succeed later

Each has a message that says what is wrong and where, and a hint that says what to do. Both name
settings in backticks, as Python spells them; the command line shows them as its flags.
"""

from __future__ import annotations

# Characters of a message.
_LONGEST = 1000


def raised_in_rust(error: BaseException) -> bool:
    """Whether a library in Rust raised it: Exception itself, or a panic, which is no Exception."""
    return type(error) is Exception or type(error).__name__ == "PanicException"


class SpladeEsError(Exception):
    """Base of the tree. str() is one line: the message, then the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        said = self.message
        if len(said) > _LONGEST:  # of a file with a megabyte where a word should be
            said = f"{said[: _LONGEST // 2]} … {said[-_LONGEST // 2 :]}"
        line = f"{said.rstrip('.')}. {self.hint}" if self.hint else said
        return " ".join(line.split())


class CorpusError(SpladeEsError):
    """A file, or a line of it, that cannot be used."""


class ModelError(SpladeEsError):
    """A model or tokenizer that cannot be loaded or used."""


class SettingsError(SpladeEsError):
    """A setting, or a combination of settings, that is invalid."""


class TrainingError(SpladeEsError):
    """Training data or settings that are invalid, or a loss that is not finite."""


class Interrupted(SpladeEsError):
    """Stopped by a signal, with everything saved that is needed to resume."""


class QueryError(SpladeEsError):
    """A query, a measure or a number of results that is invalid."""


class EngineError(SpladeEsError):
    """The search engine refused, or cannot be used."""


class IndexMissing(EngineError):
    """The index does not exist."""


class IndexExists(EngineError):
    """An index of this name already exists."""


class IndexMismatch(EngineError):
    """The index was made by another model, or not by splade-es."""


class IndexReplaced(EngineError):
    """The index was deleted, or deleted and created again, while it was written."""


class NotPublished(EngineError):
    """A load is held back: what it would replace or delete stays as it is."""


class FieldTypeMissing(EngineError):
    """The server has no such field type for the features."""


class AccessDenied(EngineError):
    """401 or 403: unknown credentials, or a missing privilege."""


class RequestTooLarge(EngineError):
    """413: less must be sent at once."""


class Unavailable(EngineError):
    """Down, timed out, or 429, 502, 503 or 504: the same request may succeed later.

    Attributes
    ----------
    status : int
        HTTP status of the answer, 0 if there was none.
    retry_after : float
        Seconds that the server asks to wait.
    """

    def __init__(
        self, message: str, hint: str = "", *, status: int = 0, retry_after: float = 0.0
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.retry_after = retry_after
