"""Requests to a server: sent, sent again where asked for, and read."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from splade_es.engines.address import Address
from splade_es.engines.base import FieldType
from splade_es.engines.responses import unreadable
from splade_es.engines.retry import ATTEMPTS, pause
from splade_es.engines.shapes import WRONG_SHAPE
from splade_es.errors import Unavailable
from splade_es.fields import FIELD, ID_FIELD
from splade_es.records import Action

# Keys of the vector and of the id in the JSON of a document.
_FEATURES, _ID = f'"{FIELD}":'.encode(), f',"{ID_FIELD}":'.encode()


class FeatureField(NamedTuple):
    """A field type that can hold the features.

    mapping: of the field; no_vectors: settings of an index whose `_source` is without vectors;
    query: how it is searched.
    """

    type: FieldType
    mapping: dict[str, Any]
    no_vectors: dict[str, Any]
    query: str


class Known(NamedTuple):
    """What is known of an index once its mapping has been read.

    field: how it holds the features; name: the name of that field; text_fields: where a backfill
    encoded them, the fields of the text, each with the path of the nested objects it is in, or "".
    """

    field: FeatureField
    name: str
    text_fields: dict[str, str]


class Transport(ABC):
    """A connection to a server. Safe to use from several threads.

    Elasticsearch and OpenSearch differ in the client and the field types: a subclass sends one
    request and maps the exceptions of its client.

    Attributes
    ----------
    where : str
        URL without credentials.
    label : str
        What errors call the server: "elasticsearch at http://host:9200".
    feature_fields : sequence of FeatureField
        Field types for the features, the preferred one first.
    timeout : float
        Seconds until a request is given up.
    """

    name: str
    feature_fields: tuple[FeatureField, ...]

    def __init__(self, address: Address, version: str) -> None:
        self.version = version
        self.where = address.url
        self.label = f"{self.name} at {self.where}"
        self.timeout = address.timeout
        #: Indices by name.
        self.known: dict[str, Known] = {}

    @abstractmethod
    def send(self, method: str, path: str, body: bytes | None, timeout: float) -> Any:
        """The parsed answer to one request, sent once; for HEAD, whether it exists.

        Raises EngineError.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    def request(
        self,
        method: str,
        path: str,
        *lines: Any,
        timeout: float | None = None,
        retry: bool = False,
    ) -> Any:
        """The parsed answer to one request.

        lines: its body, a line of JSON each; bytes are JSON already. retry: send it again while it
        may succeed later.
        """
        body = None
        if lines:
            made = [line if isinstance(line, bytes) else to_json(line) for line in lines]
            body = b"\n".join([*made, b""])
        for attempt in range(ATTEMPTS):
            try:
                answer = self.send(method, path, body, timeout or self.timeout)
                break
            except Unavailable as error:
                if not retry or attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(pause(attempt, error))
            except WRONG_SHAPE as error:  # from within the client, which reads errors too
                raise unreadable(self.label) from error
        if not isinstance(answer, (dict, bool)):
            raise unreadable(self.label)
        return answer

    @contextmanager
    def answer(
        self,
        method: str,
        path: str,
        *lines: Any,
        timeout: float | None = None,
        retry: bool = False,
    ) -> Iterator[Any]:
        """The answer to one request, for the block that reads it; see `request`.

        What the block does not find there, or finds to be of another type, is an EngineError: no
        such server sends it.
        """
        answer = self.request(method, path, *lines, timeout=timeout, retry=retry)
        try:
            yield answer
        except WRONG_SHAPE as error:
            raise unreadable(self.label) from error

    def command(
        self,
        method: str,
        path: str,
        *lines: Any,
        timeout: float | None = None,
        retry: bool = False,
    ) -> None:
        """Send a request whose answer only says that it is done; see `request`."""
        with self.answer(method, path, *lines, timeout=timeout, retry=retry) as answer:
            if not answer.keys() & {"acknowledged", "_shards"}:
                raise KeyError("acknowledged")


def to_json(value: Any) -> bytes:
    """JSON, in one line."""
    try:
        line = orjson.dumps(value)
        if b"null" not in line:  # orjson writes NaN as null, which a server would accept
            return line
    except TypeError:  # integers of more than 64 bits, deep objects, lone surrogates
        pass
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # a query typed in another encoding may hold lone surrogates, which no server minds
    return text.encode("utf-8", "surrogatepass")


def bulk_lines(action: Action) -> tuple[bytes, ...]:
    """An action as the lines of a `_bulk` request."""
    id = to_json(action.id)
    if action.fields is None:
        return (b'{"delete":{"_id":%b}}' % id,)
    comma = b"," if len(action.fields) > 2 else b""
    if action.version is None:
        document = b"".join((action.fields[:-1], comma, _FEATURES, action.features, _ID, id, b"}"))
        return b'{"index":{"_id":%b}}' % id, document
    seq_no, primary_term, routing = action.version
    target = {"_id": action.id, "if_seq_no": seq_no, "if_primary_term": primary_term}
    if routing is not None:
        target["routing"] = routing
    # Of two objects an update makes one, with the features of the earlier text; a list it replaces.
    features = b"%b:[%b]" % (to_json(action.features_field), action.features)
    document = b"".join((action.fields[:-1], comma, features, _ID, id, b"}"))
    return b'{"update":%b}' % to_json(target), b'{"doc":%b}' % document
