"""Saved objects that show in Kibana and OpenSearch Dashboards what a model put into an index.

Neither charts or aggregates a vector (both show it as JSON), so the panels use its companion
fields. The objects have the shape of version 7, the last that both products share, with an empty
`migrationVersion`, which makes either of them migrate an object to its own version
(https://www.elastic.co/docs/api/doc/kibana/operation/operation-post-saved-objects-import,
https://docs.opensearch.org/latest/dashboards/management/saved-objects/).
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from splade_es.engines.address import Address
from splade_es.engines.base import check_index_name
from splade_es.engines.responses import engine_error, unreadable
from splade_es.engines.shapes import WRONG_SHAPE, read_json
from splade_es.errors import EngineError

# Each product wants its own header against cross-site requests, and ignores the other's. Without
# the third, OpenSearch Dashboards would put the objects where only this user sees them.
_HEADERS = {"kbn-xsrf": "splade-es", "osd-xsrf": "splade-es", "securitytenant": "global"}
_SOURCE_INDEX = "kibanaSavedObjectMeta.searchSourceJSON.index"


def dashboard_id(index: str) -> str:
    """The id of the dashboard of an index; the ids of its parts begin with it."""
    return f"splade-es-{index}"


def saved_objects(index: str) -> list[dict[str, Any]]:
    """The saved objects of a dashboard that shows what a model put into an index.

    Parameters
    ----------
    index : str
        An index or an alias.

    Returns
    -------
    list of dict
        A data view, the panels, and the dashboard. An import replaces those of an earlier one.

    Raises
    ------
    EngineError
        The name is invalid.
    """
    check_index_name(index)
    board = _read("dashboard", index)
    panels = board["panels"]
    grid = [
        {
            "version": "7.10.0",
            "panelIndex": str(n),
            "gridData": {**{side: panel[side] for side in "xywh"}, "i": str(n)},
            "embeddableConfig": {},
            "panelRefName": f"panel_{n}",
        }
        for n, panel in enumerate(panels)
    ]
    parts = [_part(panel["object"], index) for panel in panels]
    dashboard = _object(
        "dashboard",
        dashboard_id(index),
        {
            "title": f"{index}: {board['title']}",
            "description": board["description"],
            "panelsJSON": json.dumps(grid, ensure_ascii=False),
            "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}),
            "timeRestore": False,
            **_source({}),
        },
        [
            {"name": f"panel_{n}", "type": part["type"], "id": part["id"]}
            for n, part in enumerate(parts)
        ],
    )
    view = _object("index-pattern", _view_id(index), {"title": index}, [])
    return [view, *parts, dashboard]


def ndjson(objects: list[dict[str, Any]]) -> str:
    """The objects as both products import and export them: one line each."""
    return "".join(json.dumps(object, ensure_ascii=False) + "\n" for object in objects)


def import_saved_objects(url: str, objects: list[dict[str, Any]]) -> str:
    """Import saved objects into Kibana or OpenSearch Dashboards, in place of earlier ones.

    Parameters
    ----------
    url : str
        Of Kibana or OpenSearch Dashboards, with the path of a space if the objects belong there.
        Credentials come from the environment, as `connect` says.
    objects : list of dict
        As `saved_objects` makes them.

    Returns
    -------
    str
        The URL of the dashboard, without credentials.

    Raises
    ------
    EngineError
        The product refused all or some of them; the message names the first.
    """
    address = Address.parse(url)
    base = address.urls[0]
    file = ("splade-es.ndjson", ndjson(objects), "application/ndjson")
    path = "/api/saved_objects/_import?overwrite=true"
    answer = address.request("POST", base, path, _HEADERS, fields={"file": file})
    body = read_json(answer.data)
    body = body if isinstance(body, dict) else {}
    if answer.status >= 400:
        said = body.get("message") or body.get("error") or ""
        raise engine_error(answer.status, {"error": said}, base)
    if answer.status != 200 or "success" not in body:  # a page to log in at, say
        raise unreadable(base)
    try:
        if not body["success"]:
            (first, *_) = body.get("errors") or [
                {"type": "objects", "id": "?", "error": {"type": ""}}
            ]
            raise EngineError(
                f"{base} took {body['successCount']} of {len(objects)} objects; not the "
                f"{first['type']} {first.get('title') or first['id']!r}: {_why(first['error'])}",
                "Write them to a file, and import it in the Saved Objects page to see more.",
            )
        # In another space than that of an earlier import it gets an id of its own.
        ids = {done["type"]: done.get("destinationId") for done in body.get("successResults", [])}
        return f"{base}/app/dashboards#/view/{ids.get('dashboard') or objects[-1]['id']}"
    except WRONG_SHAPE as error:
        raise unreadable(base) from error


def _part(name: str, index: str) -> dict[str, Any]:
    described = _read(name, index)
    attributes: dict[str, Any] = {
        "title": f"{index}: {described['title']}",
        "description": described["description"],
    }
    references = [{"name": _SOURCE_INDEX, "type": "index-pattern", "id": _view_id(index)}]
    source = {"indexRefName": _SOURCE_INDEX}
    if described["type"] == "search":
        attributes |= {"columns": described["columns"], "sort": [], **_source(source)}
    else:
        state = described["visState"]
        if state["type"] == "vega":  # it names its index itself
            spec = json.dumps(state["params"]["spec"], indent=2, ensure_ascii=False)
            state = {**state, "params": {"spec": spec}}
            references, source = [], {}
        attributes |= {
            "visState": json.dumps({"title": attributes["title"], **state}, ensure_ascii=False),
            "uiStateJSON": "{}",
            **_source(source),
        }
    return _object(described["type"], f"{dashboard_id(index)}-{name}", attributes, references)


def _object(
    type: str, id: str, attributes: dict[str, Any], references: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "type": type,
        "id": id,
        "attributes": attributes,
        "references": references,
        "migrationVersion": {},
    }


def _source(further: dict[str, Any]) -> dict[str, Any]:
    source = {"query": {"query": "", "language": "kuery"}, "filter": [], **further}
    return {"version": 1, "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source)}}


def _view_id(index: str) -> str:
    return f"{dashboard_id(index)}-view"


def _read(name: str, index: str) -> dict[str, Any]:
    text = files("splade_es.mappings").joinpath("saved_objects", f"{name}.json").read_text("utf-8")
    described: dict[str, Any] = json.loads(text.replace('"INDEX"', json.dumps(index)))
    return described


def _why(error: dict[str, Any]) -> str:
    missing = ", ".join(reference["id"] for reference in error.get("references", []))
    return " ".join(str(part) for part in (error["type"], error.get("message"), missing) if part)
