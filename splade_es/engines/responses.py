"""Answers of the servers; Elasticsearch and OpenSearch share their format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from splade_es.engines.base import TRY_LATER
from splade_es.engines.shapes import expect
from splade_es.errors import (
    AccessDenied,
    EngineError,
    FieldTypeMissing,
    IndexExists,
    IndexMissing,
    RequestTooLarge,
    Unavailable,
)
from splade_es.fields import ID_FIELD
from splade_es.records import ItemResult, ScoredId

# What a user may not do: Elasticsearch names the privileges, OpenSearch and Amazon the action.
_MISSING = (
    (re.compile(r"granted by the (.* privileges? \[[^\]]+)\]"), "Grant this user one of the {}]."),
    (re.compile(r"no permissions for \[([^\]]+)\]"), "Grant this user the permission {}."),
    (re.compile(r"not authorized to perform: ([\w:]+)"), "Allow this user the action {}."),
)
# Each version words it differently, and all name the type so.
_FIELD_TYPE = re.compile(r"type \[(?:rank_features|sparse_vector)\]")
# What a `default_pipeline` that does not exist is called, in items or of the whole request.
_NO_PIPELINE = re.compile(r"pipeline with id \[.*\] does not exist")
_PARTS = {
    **dict.fromkeys(("fdt", "fdx", "fdm"), "_source"),
    **dict.fromkeys(("doc", "pos", "pay", "tim", "tip", "tmd", "psm"), "postings"),
    **dict.fromkeys(("dvd", "dvm"), "doc values"),
    **dict.fromkeys(("tvd", "tvx", "tvm"), "vectors outside _source"),
    **dict.fromkeys(("nvd", "nvm"), "norms"),
    **dict.fromkeys(("kdd", "kdi", "kdm"), "points"),
    **dict.fromkeys(("cfs", "cfe"), "small segments, all parts in one file"),
}


def reason(error: Any) -> str:
    """What an `error` object of any shape says: its outermost cause, and its innermost.

    The outer one names the field of a document, the inner one what is wrong with its value.
    """
    if not isinstance(error, Mapping):
        return "" if error is None else str(error)
    roots = error.get("root_cause")
    outer = roots[0] if isinstance(roots, list) and roots else error
    inner = error
    while isinstance(inner.get("caused_by"), Mapping):
        inner = inner["caused_by"]
    said = [text for text in (_cause(outer), _cause(inner)) if text]
    return said[0] if said and said[-1] in said[0] else "; ".join(said)


def _cause(cause: Any) -> str:
    """Type and text of one cause; a cloud in front of the server names them in its own way."""
    if not isinstance(cause, Mapping):
        return str(cause)
    found = [
        next((str(cause[name]) for name in names if cause.get(name)), "")
        for names in (("type", "code"), ("reason", "message", "Message"))
    ]
    return ": ".join(part for part in found if part)


def _error_of(body: Any) -> Any:
    """The part of an answer that says what is wrong."""
    match body:
        case {"error": error} if error:
            return error
        case {"errors": [error, *_]}:
            return error
    return body if isinstance(body, Mapping) else None


def _takes_nothing(kind: str | None, status: int) -> bool:
    """Whether an index is blocked or closed; with 429 the disk is too full for now."""
    closed = kind in ("cluster_block_exception", "index_closed_exception")
    return closed and status not in TRY_LATER


def _refuses_all(kind: str | None, status: int, detail: str) -> bool:
    """Whether the refusal of one document is that of every one, whatever is in it."""
    return (
        kind in ("index_not_found_exception", "routing_missing_exception")
        or status in (401, 403)
        or _NO_PIPELINE.search(detail) is not None
        or _takes_nothing(kind, status)
    )


def engine_error(
    status: int, body: Any, server: str, retry_after: str | None = None
) -> EngineError:
    """The error for an answer with a status of 400 and above.

    server: "elasticsearch at http://host:9200". body: parsed JSON, or whatever a proxy sent.
    retry_after: that header; seconds are read, a date (RFC 9110) is not.
    """
    error = _error_of(body)
    detail = reason(error)
    kind = error.get("type") if isinstance(error, Mapping) else None
    index = error.get("index", "") if isinstance(error, Mapping) else ""
    if kind == "index_not_found_exception":
        return index_missing(index, server)
    if kind == "resource_already_exists_exception":
        return index_exists(index, server)
    if _takes_nothing(kind, status):
        return EngineError(
            f"{server} takes no documents ({detail})", "Open the index, or lift its block."
        )
    says = f"{server} answers {status}" + (f" ({detail})" if detail else "")
    if kind == "routing_missing_exception":
        return EngineError(says, "Load into an index whose `_routing` is not required.")
    if _NO_PIPELINE.search(detail):
        return EngineError(says, "Create that pipeline, or take it out of the index's settings.")
    if status in (401, 403):
        return AccessDenied(says, _remedy(status, kind, detail))
    if status == 413:
        return RequestTooLarge(says, "Send less at once.")
    if status in TRY_LATER:
        return Unavailable(
            says, "Try again later.", status=status, retry_after=_seconds(retry_after)
        )
    if status == 400 and _FIELD_TYPE.search(detail):
        return FieldTypeMissing(says)
    return EngineError(says)


def _remedy(status: int, kind: str | None, detail: str) -> str:
    """What to do about an answer of 401 or 403."""
    for pattern, remedy in _MISSING:
        if found := pattern.search(detail):
            return remedy.format(found[1].replace(",", ", "))
    if status == 403 and kind not in (None, "security_exception"):
        return ""  # it is about something else than the user
    return (
        "Set SPLADE_ES_API_KEY, SPLADE_ES_BEARER_TOKEN, or SPLADE_ES_USERNAME and "
        "SPLADE_ES_PASSWORD, to credentials "
        + ("that it knows." if status == 401 else "with the privilege to do this.")
    )


def _seconds(retry_after: str | None) -> float:
    """The seconds of that header; 0 where it says something else."""
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0


def index_exists(index: str, server: str) -> IndexExists:
    """The error for an index that cannot be created."""
    return IndexExists(
        f"The index {index!r} already exists on {server}",
        "Choose another name, or set `recreate` to replace it.",
    )


def index_missing(index: str, server: str) -> IndexMissing:
    """The error for an index that does not exist."""
    return IndexMissing(
        f"There is no index {index!r} on {server}",
        "Check the name, or load a corpus into it first.",
    )


def unreachable(server: str, cause: BaseException, *, tls: bool = False) -> EngineError:
    """The error for a request that got no answer."""
    # past what each layer wraps around it, but not on to a Ctrl-C that was being handled
    while isinstance(inner := cause.__cause__ or cause.__context__, Exception):
        cause = inner
    text = str(cause) or type(cause).__name__
    if tls:
        hint = "Set SPLADE_ES_CA_CERT to the certificate of its authority, or check http or https."
        if "expired" in text:
            hint = "Its certificate must be renewed."
        elif "ingerprint" in text:
            hint = "Set SPLADE_ES_CERT_FINGERPRINT to that of its certificate, if you trust it."
        return EngineError(f"No trusted TLS connection to {server} ({text})", hint)
    return Unavailable(f"No answer from {server} ({text})", "Check the URL and that it runs.")


def unsupported(server: str) -> EngineError:
    """The error for an answer without the header by which Elasticsearch's client knows it."""
    return EngineError(
        f"An answer of {server} lacks the header x-elastic-product, without which its Python "
        "client takes no answer",
        "Let the proxy in between pass that header.",
    )


def unreadable(server: str) -> EngineError:
    """The error for an answer that is not the JSON these servers send."""
    return EngineError(f"{server} sends an invalid answer", "Check whether a proxy is in between.")


_DROPPED = ItemResult(422, "nothing was written: an ingest pipeline dropped it")


def bulk_results(body: Any, server: str) -> list[ItemResult]:
    """One result for each item of a `_bulk` request, in order."""
    results = []
    for item in body["items"]:
        ((operation, outcome),) = item.items()
        error, status = outcome.get("error"), expect(int, outcome["status"])
        if not 200 <= status < 600 or 300 <= status < 400 or (error and status < 400):
            raise ValueError(f"the status {status}")
        kind = error.get("type") if isinstance(error, Mapping) else None
        if not error:
            dropped = operation == "index" and outcome.get("result") == "noop"
            results.append(_DROPPED if dropped else ItemResult(status))
        elif _refuses_all(kind, status, reason(error)):
            raise engine_error(status, outcome, server)
        else:
            results.append(ItemResult(status, reason(error)))
    return results


def search_hits(body: Any) -> list[dict[str, Any]]:
    """The hits of a search."""
    return expect(list, body["hits"]["hits"])


def scored_ids(body: Any, server: str) -> list[list[ScoredId]]:
    """The results of each search of a `_msearch` request that reads ids from doc values."""
    return [
        [
            ScoredId(expect(str, hit["fields"][ID_FIELD][0]), float(hit["_score"]))
            for hit in search_hits(answer)
        ]
        for answer in _answers(body, server)
    ]


def hit_counts(body: Any, server: str) -> list[int]:
    """How many documents each search of a `_msearch` request found."""
    return [int(answer["hits"]["total"]["value"]) for answer in _answers(body, server)]


def parts(sizes: Mapping[str, int]) -> dict[str, int]:
    """What an index is made of, in bytes, the largest part first.

    sizes: of its files by extension, as Lucene names them
    (https://lucene.apache.org/core/10_2_0/core/org/apache/lucene/codecs/lucene101/package-summary.html).
    """
    found: dict[str, int] = {}
    for extension, size in sizes.items():
        part = _PARTS.get(extension, "other")
        found[part] = found.get(part, 0) + size
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def text_of(source: Any, fields: Iterable[str]) -> str:
    """The strings in these fields of a document, one after the other.

    "outer.inner" is a field in an object, or in each object of a list.
    """
    return " ".join(text for name in fields for text in _texts(source, name.split(".")))


def _texts(value: Any, path: Sequence[str]) -> Iterator[str]:
    """The strings at the end of a path, in the order of the document."""
    if isinstance(value, list):
        for item in value:
            yield from _texts(item, path)
    elif isinstance(value, str) and not path:
        yield value
    elif isinstance(value, Mapping):
        for end in range(1, len(path) + 1):  # a key may have dots too
            yield from _texts(value.get(".".join(path[:end])), path[end:])


def _answers(body: Any, server: str) -> Iterator[Mapping[str, Any]]:
    """The answer of each search. Raises for one that failed, which would look like an empty one."""
    for answer in body["responses"]:
        if "error" in answer:
            raise engine_error(expect(int, answer["status"]), answer, server)
        yield answer
