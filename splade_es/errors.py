"""Everything a person may be told went wrong.

    SpladeEsError
    ├── CorpusError          a file or line of input: the message starts with "path:line: "
    ├── ModelError           a model directory, hub name or tokenizer
    ├── TrainingError        training data or settings, or a loss that is no number
    ├── Interrupted          stopped by a signal, with all saved that is needed to go on
    ├── QueryError           a query, a measure or a k that cannot be answered
    └── EngineError          the search engine said no
        ├── IndexMissing     there is no such index
        ├── IndexMismatch    the index was made by something else than what is asked of it
        ├── AccessDenied     401 or 403
        ├── RequestTooLarge  413: send less at once
        └── Unavailable      down, timed out, or 429/502/503/504: the same request may pass later

Each carries a message that says what is wrong and where, and a hint that says what to do.
"""

from __future__ import annotations


class SpladeEsError(Exception):
    """Base of the tree. str() is one line: the message, then the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        line = f"{self.message.rstrip('.')}. {self.hint}" if self.hint else self.message
        return " ".join(line.split())


class CorpusError(SpladeEsError):
    pass


class ModelError(SpladeEsError):
    pass


class TrainingError(SpladeEsError):
    pass


class Interrupted(SpladeEsError):
    pass


class QueryError(SpladeEsError):
    pass


class EngineError(SpladeEsError):
    pass


class IndexMissing(EngineError):
    pass


class IndexMismatch(EngineError):
    pass


class AccessDenied(EngineError):
    pass


class RequestTooLarge(EngineError):
    pass


class Unavailable(EngineError):
    """status: of the answer, 0 if there was none. retry_after: seconds the server asks to wait."""

    def __init__(
        self, message: str, hint: str = "", *, status: int = 0, retry_after: float = 0.0
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.retry_after = retry_after
