"""Bulk requests to an engine: several at once, each until it is done, none lost.

The helpers of the clients give up where a load must continue: they do not repeat items that were
refused for the moment, end with a lost connection, and cannot split a request that is too large.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from splade_es.engines.base import TRY_LATER, EngineIndex
from splade_es.engines.retry import ATTEMPTS, pause
from splade_es.errors import Interrupted, RequestTooLarge, Unavailable
from splade_es.records import Action, ItemResult

# Bytes of a request. Both servers are fastest with a few MB, and a resend should be cheap.
_SMALLEST, _FIRST = 64_000, 1_000_000
_MOST_CONNECTIONS = 8
# A document that is refused alone, again and again, for this reason is too large for the server.
# Any other reason, such as a disk that is too full, is none of the document's.
_NO_MEMORY = "circuit_breaking_exception"
# Seconds that `stop` waits for requests in flight: a server that hangs must not hold Ctrl-C.
_LAST_WAIT = 10.0
# A larger request, or one more connection, is kept if the rate grows by this factor.
_WORTH = 1.05


class BulkRequest(Protocol):
    """Documents that are sent together."""

    @property
    def ids(self) -> Sequence[str]:
        """Their ids, each once."""

    @property
    def size(self) -> int:
        """Approximate bytes of the body."""

    def actions(self) -> list[Action]:
        """The action of each document. Called once, by the thread that sends them."""


_Request = TypeVar("_Request", bound=BulkRequest)


class Pace:
    """How much is sent at once: grown while that pays, cut back when the server is overloaded.

    connections: requests in flight at once; size: bytes that a request should have; largest: bytes
    that it may have.
    """

    LARGEST = 4_000_000

    def __init__(self, largest: int = LARGEST) -> None:
        self.connections = 2  # with one, the server waits while the next request is built
        self.size = min(_FIRST, largest)
        self._largest = largest
        self._best = 0.0  # bytes a second
        self._before = (self.connections, self.size)  # where the last step began
        self._refused_growth = 0  # steps in a row that gained nothing
        self._restart()

    def sent(self, size: int, waiting: bool) -> None:
        """A request of this size is done.

        waiting: whether another was ready to be sent; otherwise the encoder sets the pace.
        """
        self._requests += 1
        self._bytes += size
        if not waiting:
            self._restart()
        elif self._requests >= 3 * self.connections:
            rate = self._bytes / max(1e-9, time.monotonic() - self._since)
            if self._best and rate < _WORTH * self._best:
                self.connections, self.size = self._before
                self._refused_growth += 1
            else:
                self._best = rate
                self._refused_growth = 0
            if self._refused_growth < 2:
                self._grow(larger=self._refused_growth == 0)
            self._restart()

    def overloaded(self) -> None:
        """The server refused something for the moment, or did not answer."""
        if self.connections > 1:
            self.connections = (self.connections + 1) // 2
        else:
            self.size = max(_SMALLEST, self.size // 2)
        self._best, self._refused_growth = 0.0, 0  # the best rate so far no longer says anything
        self._before = (self.connections, self.size)
        self._restart()

    def too_large(self, size: int) -> None:
        """A request of several documents and this size was too large as a whole."""
        self._largest = max(_SMALLEST, min(self._largest, size // 2))
        self.size = min(self.size, self._largest)
        self._before = (self.connections, self.size)

    def _grow(self, larger: bool) -> None:
        self._before = (self.connections, self.size)
        if larger and self.size < self._largest:
            self.size = min(self._largest, 2 * self.size)
        else:
            self.connections = min(_MOST_CONNECTIONS, self.connections + 1)

    def _restart(self) -> None:
        self._requests, self._bytes, self._since = 0, 0, time.monotonic()


class BulkSender(Generic[_Request]):
    """Sends requests in threads of its own, as many at once as the pace allows.

    finished: called for each request with the last result of each of its documents, by one thread
    at a time. Two requests with the same id are never in flight together, so that of two documents
    with one id the last one wins.
    """

    def __init__(
        self,
        index: EngineIndex,
        finished: Callable[[_Request, list[ItemResult]], None],
        pace: Pace,
    ) -> None:
        self._index = index
        self._finished = finished
        self._pace = pace
        self._queue: deque[_Request] = deque()
        self._active = 0  # requests in flight
        self._ids: set[str] = set()  # of what is queued or in flight
        self._failure: BaseException | None = None
        self._stopping = threading.Event()  # nothing more is sent
        self._stopped = False  # nobody asks for results any more
        self._change = threading.Condition()
        self._threads: list[threading.Thread] = []

    @property
    def size(self) -> int:
        """Bytes that the next request should have."""
        return self._pace.size

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or in flight."""
        return not self._queue and not self._active

    def put(self, request: _Request) -> None:
        """Queue a request as soon as there is room. Raises the error that stopped the sending."""
        ids = set(request.ids)
        with self._change:
            self._wait_until(
                lambda: len(self._queue) < self._pace.connections and self._ids.isdisjoint(ids)
            )
            self._queue.append(request)
            self._ids |= ids
            if len(self._threads) < self._pace.connections:
                thread = threading.Thread(target=self._run, name="bulk sender", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._change.notify_all()

    def finish(self) -> None:
        """Wait until everything is sent. Raises the error that stopped the sending."""
        with self._change:
            self._wait_until(lambda: self.idle)

    def stop(self) -> None:
        """Send nothing more, and wait a little for what is in flight.

        A request that takes longer is never counted, so that it will be sent again.
        """
        with self._change:
            self._stopping.set()
            self._change.notify_all()
        until = time.monotonic() + _LAST_WAIT
        try:
            for thread in self._threads:
                thread.join(max(0.0, until - time.monotonic()))
        finally:  # after a second Ctrl-C, too
            with self._change:
                self._stopped = True

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        while self._failure is None and not ready():
            self._change.wait(0.2)  # a wait without limit would not notice Ctrl-C
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        try:
            while request := self._take():
                results = self._deliver(request.actions(), request.size)
                with self._change:
                    if self._stopped:
                        return
                    self._finished(request, results)
                    self._pace.sent(request.size, waiting=bool(self._queue))
                    self._active -= 1
                    self._ids.difference_update(request.ids)
                    self._change.notify_all()
                del request  # it should not stay in memory while there is nothing to send
        except BaseException as error:
            with self._change:
                self._failure = self._failure or error
                self._stopping.set()
                self._change.notify_all()

    def _take(self) -> _Request | None:
        with self._change:
            while not self._stopping.is_set():
                if self._queue and self._active < self._pace.connections:
                    self._active += 1
                    self._change.notify_all()
                    return self._queue.popleft()
                self._change.wait(0.2)
        return None

    def _deliver(self, actions: Sequence[Action], size: int) -> list[ItemResult]:
        """The result of each action, once none is to be repeated. Raises Unavailable."""
        results = [ItemResult(0)] * len(actions)
        left = list(range(len(actions)))
        for attempt in range(ATTEMPTS):
            if self._stopping.is_set():  # what is sent now could come after what others load
                raise Interrupted("The load has ended")
            try:
                answers = self._index.bulk([actions[i] for i in left])
            except RequestTooLarge as error:
                if len(left) == 1:
                    results[left[0]] = ItemResult(413, str(error))
                    return results
                with self._change:
                    self._pace.too_large(size)
                break
            except Unavailable as error:
                # some of it may have been applied, but an id and its content stay the same
                problem = error
                refusal = ItemResult(error.status, error.message)
            else:
                for i, result in zip(left, answers, strict=True):
                    results[i] = result
                left = [i for i in left if results[i].status in TRY_LATER]
                if not left:
                    return results
                refusal = results[left[0]]
                problem = Unavailable(
                    f"{self._index.engine.name} at {self._index.engine.where} is overloaded "
                    f"({refusal.status}: {refusal.reason})",
                    "Try again later.",
                    status=refusal.status,
                )
            last = attempt + 1 == ATTEMPTS
            if last and len(left) == 1 and refusal.status == 429 and _NO_MEMORY in refusal.reason:
                results[left[0]] = refusal
                return results
            with self._change:
                self._pace.overloaded()
            if last or self._stopping.wait(pause(attempt, problem)):
                raise problem
            if len(left) > 1 and size * len(left) // len(actions) > self._pace.size:
                break
        # as one request it is more than the server takes, or takes now
        middle = len(left) // 2
        for half in (left[:middle], left[middle:]):
            answers = self._deliver([actions[i] for i in half], size * len(half) // len(actions))
            for i, result in zip(half, answers, strict=True):
                results[i] = result
        return results
