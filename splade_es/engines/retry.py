"""How long to wait before a request is sent again."""

from __future__ import annotations

import random

from splade_es.errors import Unavailable

#: Attempts at one request or item, with 0.5 s, 1 s, 2 s, ... 30 s between them: two minutes.
ATTEMPTS = 9
_LONGEST_WAIT = 30.0
# The longest Retry-After that is honoured.
_LONGEST_ASKED = 600.0


def pause(attempt: int, problem: Unavailable) -> float:
    """Seconds to wait after an attempt, counted from 0.

    Twice as long each time, with jitter, and at least as long as the server asks for.
    """
    wait = min(_LONGEST_WAIT, 0.5 * 2.0**attempt) * random.uniform(0.5, 1.0)
    return max(wait, min(problem.retry_after, _LONGEST_ASKED))
