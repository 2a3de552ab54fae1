"""Answers of the servers; Elasticsearch and OpenSearch share their format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from splade_es.engines.base import TRY_LATER
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
    """The innermost cause of an `error` object, which says what is wrong."""
    if not isinstance(error, Mapping):
        return str(error)
    cause = next(iter(error.get("root_cause") or [error]))
    while isinstance(cause.get("caused_by"), Mapping):
        cause = cause["caused_by"]
    return f"{cause.get('type')}: {cause.get('reason')}"


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
    error = body.get("error", body) if isinstance(body, Mapping) else body
    detail = reason(error) if isinstance(body, Mapping) else ""
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
        return AccessDenied(
            says,
            "Set SPLADE_ES_API_KEY, SPLADE_ES_BEARER_TOKEN, or SPLADE_ES_USERNAME and "
            "SPLADE_ES_PASSWORD, to credentials "
            + ("that it knows." if status == 401 else "with the privilege to do this."),
        )
    if status == 413:
        return RequestTooLarge(says, "Send less at once.")
    if status in TRY_LATER:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        return Unavailable(says, "Try again later.", status=status, retry_after=seconds)
    if status == 400 and _FIELD_TYPE.search(detail):
        return FieldTypeMissing(says)
    return EngineError(says)


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


def unreadable(server: str) -> EngineError:
    """The error for an answer that is not the JSON these servers send."""
    return EngineError(f"{server} sends an invalid answer", "Check whether a proxy is in between.")


_DROPPED = ItemResult(422, "nothing was written: an ingest pipeline dropped it")


def bulk_results(body: Any, server: str) -> list[ItemResult]:
    """One result for each item of a `_bulk` request, in order."""
    results = []
    for item in body["items"]:
        ((operation, outcome),) = item.items()
        error, status = outcome.get("error"), outcome["status"]
        kind = error.get("type") if isinstance(error, Mapping) else None
        if not error:
            dropped = operation == "index" and outcome.get("result") == "noop"
            results.append(_DROPPED if dropped else ItemResult(status))
        elif _refuses_all(kind, status, reason(error)):
            raise engine_error(status, outcome, server)
        else:
            results.append(ItemResult(status, reason(error)))
    return results


def scored_ids(body: Any, server: str) -> list[list[ScoredId]]:
    """The results of each search of a `_msearch` request that reads ids from doc values."""
    results: list[list[ScoredId]] = []
    for answer in _answers(body, server):
        hits: Sequence[Mapping[str, Any]] = answer.get("hits", {}).get("hits", [])
        results.append([ScoredId(hit["fields"][ID_FIELD][0], float(hit["_score"])) for hit in hits])
    return results


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
            raise engine_error(answer["status"], answer, server)
        yield answer
