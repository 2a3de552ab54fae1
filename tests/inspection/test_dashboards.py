"""The saved objects: what they ask the servers, how they are made up, how they are imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from command_line import run
from splade_es.engines.server import ServerEngine
from splade_es.inspection.dashboards import saved_objects
from splade_es.search.searcher import Searcher
from stub import Stub

# No dashboard looks into the local engine.
SERVERS = pytest.mark.parametrize("engine", ["opensearch", "elasticsearch"], indirect=True)
OBJECTS = {made["id"]: made for made in saved_objects("articles")}


def of_type(kind: str, index: str = "articles") -> dict[str, dict[str, Any]]:
    """Name -> the state of each visualisation of this type, or of all but Vega's."""
    states = {}
    for made in saved_objects(index):
        if made["type"] == "visualization":
            state = json.loads(made["attributes"]["visState"])
            if (state["type"] == "vega") == (kind == "vega"):
                states[made["id"].removeprefix(f"splade-es-{index}-")] = state
    return states


def request_of(state: dict[str, Any]) -> dict[str, Any]:
    """What Kibana and Dashboards send for a visualisation made of aggregations."""
    metrics: dict[str, Any] = {}
    buckets: dict[str, Any] = {}
    for agg in state["aggs"]:
        params, kind = agg["params"], agg["type"]
        if kind in ("min", "max"):
            metrics[agg["id"]] = {kind: {"field": params["field"]}}
        elif kind == "terms":
            order = {"_count": params["order"]} if params["orderBy"] == "1" else None
            buckets[agg["id"]] = {
                "terms": {"field": params["field"], "size": params["size"], "order": order}
            }
        elif kind == "histogram":
            buckets[agg["id"]] = {
                "histogram": {"field": params["field"], "interval": params["interval"]}
            }
        elif kind == "filters":
            named = {}
            for part in params["filters"]:
                assert part["input"]["language"] == "lucene"
                named[part["label"]] = {"query_string": {"query": part["input"]["query"]}}
            buckets[agg["id"]] = {"filters": {"filters": named}}
        else:
            assert kind == "count"  # which every bucket has
    ((id, bucket),) = buckets.items()
    return {"size": 0, "aggs": {id: {**bucket, **({"aggs": metrics} if metrics else {})}}}


def answer(searcher: Searcher, body: dict[str, Any], query: str = "*") -> Any:
    """With the query bar, which is a context beside what the panel asks."""
    engine = searcher.index.engine
    assert isinstance(engine, ServerEngine)
    context = {"bool": {"must": [{"query_string": {"query": query}}]}}
    return engine.request("POST", f"/{searcher.index.name}/_search", {**body, "query": context})


@SERVERS
def test_every_panel_of_aggregations_gets_what_it_shows(searcher: Searcher) -> None:
    hits = [hit.source for hit in searcher.search("heart vitamin", 300)]
    found = {}
    for name, state in of_type("aggregations").items():
        (agg,) = answer(searcher, request_of(state))["aggregations"].values()
        found[name] = agg["buckets"]
    count = searcher.index.count()
    for name, field in (("tokens", "splade_top"), ("expansions", "splade_new")):
        shown = {bucket["key"]: bucket["doc_count"] for bucket in found[name]}
        for token, documents in shown.items():
            assert documents == sum(token in source[field] for source in hits)
    for name in ("active_terms", "largest_weight"):
        assert sum(bucket["doc_count"] for bucket in found[name]) == count
        assert len(found[name]) > 1
    assert found["unmatched"]["match nothing"]["doc_count"] == 1
    assert found["unmatched"]["have tokens"]["doc_count"] == count - 1
    (indexed,) = found["indexed"]
    assert (indexed["key"], indexed["doc_count"]) == (searcher.meta.model, count)
    assert indexed["3"]["value_as_string"] <= indexed["4"]["value_as_string"]
    (documents,) = [made for made in OBJECTS.values() if made["type"] == "search"]
    columns = set(documents["attributes"]["columns"]) - {"splade_id"}
    assert columns <= hits[0].keys()


@SERVERS
@pytest.mark.parametrize("name, query", [("shares", "*"), ("significant", "text:heart")])
def test_every_vega_panel_draws_what_the_server_answers(
    searcher: Searcher, name: str, query: str
) -> None:
    spec = json.loads(of_type("vega", searcher.index.name)[name]["params"]["spec"])
    url = spec["data"].pop("url")
    assert url["index"] == searcher.index.name and url["%context%"]
    found = answer(searcher, url["body"], query)
    for step in spec["data"].pop("format", {}).get("property", "").split("."):
        found = found[step] if step else found
    buckets = found if isinstance(found, list) else found["aggregations"]["tokens"]["buckets"]
    assert buckets
    spec["data"]["values"] = found
    drawn = vl_convert.vegalite_to_svg({**spec, "width": 400, "height": 400})
    for bucket in buckets:
        assert f">{bucket['key']}</text>" in drawn.replace("&#39;", "'").replace("&quot;", '"')
    assert drawn.count('role="graphics-symbol"') >= len(buckets)
    if name == "significant":
        matching = sum("heart" in hit.source["text"] for hit in searcher.search("heart", 300))
        for bucket in buckets:
            share = bucket["bg_count"] / searcher.index.count()
            assert bucket["doc_count"] / matching > share


def test_the_objects_fit_together() -> None:
    """As Kibana 7 to 9 and OpenSearch Dashboards 1 to 3 read them."""
    assert len(OBJECTS) == 11
    used = set()
    for made in OBJECTS.values():
        assert set(made) == {"type", "id", "attributes", "references", "migrationVersion"}
        assert made["migrationVersion"] == {}
        assert made["attributes"]["title"].startswith("articles")
        names = [reference["name"] for reference in made["references"]]
        for reference in made["references"]:
            assert OBJECTS[reference["id"]]["type"] == reference["type"]
            used.add(reference["id"])
        if made["type"] == "index-pattern":
            assert made["attributes"] == {"title": "articles"}
            continue
        saved = made["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"]
        source = json.loads(saved)
        assert source["query"]["language"] == "kuery" and source["filter"] == []
        if "indexRefName" in source:
            assert names == [source["indexRefName"]]
        if made["type"] == "visualization":
            assert json.loads(made["attributes"]["uiStateJSON"]) == {}
    (board,) = [made for made in OBJECTS.values() if made["type"] == "dashboard"]
    panels = json.loads(board["attributes"]["panelsJSON"])
    panel_names = {reference["name"] for reference in board["references"]}
    assert [panel["panelRefName"] for panel in panels] == sorted(panel_names)
    assert used == OBJECTS.keys() - {board["id"]}  # nothing is left over
    taken = set()
    for panel in panels:  # no panel lies on another, or beyond the grid of 48 columns
        grid = panel["gridData"]
        assert grid["i"] == panel["panelIndex"] and grid["x"] + grid["w"] <= 48
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert (x, y) not in taken
                taken.add((x, y))


def test_a_file_to_import_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    result = run("dashboards", "--index", "articles", "--output", path)
    assert result.exit_code == 0 and result.stdout == f"11 objects in {path}\n"
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(OBJECTS.values())
    piped = run("dashboards", "--index", "articles", "--output", "-")
    assert piped.stdout == path.read_text()
    assert run("dashboards", "--index", "articles").exit_code == 2
    assert "is not a valid index name" in run("dashboards", "--index", "a*", "--output", "-").stderr


@pytest.mark.parametrize("option", ["--kibana", "--opensearch-dashboards"])
def test_an_import(stub: Stub, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setenv("SPLADE_ES_API_KEY", "c2VjcmV0")
    stub.says(200, {"success": True, "successCount": 11, "successResults": []})
    result = run("dashboards", "--index", "articles", option, f"{stub.url}/s/shop/")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{stub.url}/s/shop/app/dashboards#/view/splade-es-articles\n"
    assert stub.requests == ["POST /s/shop/api/saved_objects/_import?overwrite=true"]
    (headers,) = stub.headers
    assert headers["kbn-xsrf"] and headers["osd-xsrf"]
    assert headers["authorization"] == "ApiKey c2VjcmV0"
    assert headers["content-type"].startswith("multipart/form-data")
    (body,) = stub.bodies
    assert b'name="file"; filename="splade-es.ndjson"' in body
    assert headers["securitytenant"] == "global"
    sent = [json.loads(line) for line in body.splitlines() if line.startswith(b'{"type"')]
    assert sent == list(OBJECTS.values())


def test_a_dashboard_that_got_another_id_in_another_space(stub: Stub) -> None:
    done = [{"type": "dashboard", "id": "splade-es-articles", "destinationId": "b1c2"}]
    stub.says(200, {"success": True, "successCount": 11, "successResults": done})
    result = run("dashboards", "--index", "articles", "--kibana", stub.url)
    assert result.stdout == f"{stub.url}/app/dashboards#/view/b1c2\n"


REFUSED = {
    "type": "visualization",
    "id": "splade-es-articles-tokens",
    "title": "articles: Most frequent tokens",
    "error": {
        "type": "missing_references",
        "references": [{"type": "index-pattern", "id": "splade-es-articles-view"}],
    },
}


@pytest.mark.parametrize(
    "status, body, expected",
    [
        (
            200,
            {"success": False, "successCount": 10, "errors": [REFUSED]},
            "took 10 of 11 objects; not the visualization 'articles: Most frequent tokens': "
            "missing_references splade-es-articles-view",
        ),
        (
            401,
            {"statusCode": 401, "error": "Unauthorized", "message": "[security_exception]: no"},
            r"answers 401 ([security_exception]: no). Set SPLADE_ES_API_KEY",
        ),
        (404, {"statusCode": 404, "message": "Not Found"}, "answers 404 (Not Found)"),
        # Elasticsearch itself
        (406, {"error": "Content-Type header is not supported"}, "answers 406 (Content-Type head"),
        (200, b"null", "sends an invalid answer"),
        (200, {"success": False, "successCount": 0, "errors": []}, "took 0 of 11 objects"),
        (200, b"<html>log in</html>", "sends an invalid answer"),
        (302, b"", "sends an invalid answer"),
        (502, b"<html>nginx</html>", "answers 502"),
    ],
)
def test_an_import_that_fails(stub: Stub, status: int, body: Any, expected: str) -> None:
    stub.says(status, body)
    result = run("dashboards", "--index", "articles", "--kibana", stub.url)
    assert result.exit_code == 1 and not result.stdout
    assert len(result.stderr.splitlines()) == 1
    assert f"Error: {stub.url} {expected}" in result.stderr


def test_kibana_is_not_there() -> None:
    result = run("dashboards", "--index", "articles", "--kibana", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "No answer from http://127.0.0.1:9 ([Errno 111] Connection refused)" in result.stderr
