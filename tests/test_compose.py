"""The compose files keep to this machine, to fixed versions and to passwords of the user's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import servers
from any_engine import META
from command_line import run
from splade_es.engines.base import Engine
from splade_es.engines.dsl import rank_feature_query
from splade_es.engines.server import ServerEngine
from splade_es.mappings import index_body
from splade_es.records import Clause

COMPOSE = Path(__file__).parent.parent / "compose"


@pytest.fixture(params=["elasticsearch", "opensearch"])
def stack(request: pytest.FixtureRequest) -> Any:
    return yaml.safe_load((COMPOSE / f"{request.param}.yml").read_text())


def test_nothing_listens_beyond_this_machine(stack: Any) -> None:
    ports = [port for service in stack["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:9200:9200", "127.0.0.1:5601:5601"]


def test_every_service_is_pinned_bounded_and_checked(stack: Any) -> None:
    tested = {servers.ELASTICSEARCH, servers.OPENSEARCH}
    for service in stack["services"].values():
        assert service["image"].rpartition(":")[2] in tested
        assert service["mem_limit"]
        # one that ends when its work is done has none to wait for
        ends = "curl" in str(service.get("command")) and "sleep" not in str(service["command"])
        assert ("healthcheck" in service) == (not ends)


def test_every_password_comes_from_the_example_s_variables() -> None:
    example = (COMPOSE / ".env.example").read_text()
    names = set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
    used = set()
    for path in COMPOSE.glob("*.yml"):
        text = path.read_text()
        used |= set(re.findall(r"\$\{(\w+):\?", text))
        assert not re.findall(r"\$\{\w+\}", text)  # one that is unset would be an empty password
    assert used == names


def test_what_is_set_up_is_what_the_commands_make() -> None:
    made = run("dashboards", "--index", "articles", "--output", "-").stdout
    assert (COMPOSE / "articles" / "dashboard.ndjson").read_text() == made
    template = json.loads((COMPOSE / "articles" / "index_template.json").read_text())
    body = index_body(META, {"type": "rank_features"})
    del body["mappings"]["_meta"]  # which `splade-es index` writes
    assert template == {"index_patterns": ["articles*"], "template": body}


@pytest.mark.parametrize("engine", ["opensearch"], indirect=True)  # where there is rank_features
def test_the_template_serves_those_who_make_an_index_by_hand(engine: Engine) -> None:
    assert isinstance(engine, ServerEngine)
    template = (COMPOSE / "articles" / "index_template.json").read_bytes()
    engine.request("PUT", "/_index_template/articles", json.loads(template))
    try:
        source = {"splade": {"heart": 214}, "splade_n": 1, "text": "heart"}
        engine.request("PUT", "/articles-by-hand/_doc/a?refresh=true", source)
        query = rank_feature_query("splade", [Clause("heart", 0.5)])
        found = engine.request("POST", "/articles-by-hand/_search", {"query": query})
        assert [hit["_score"] for hit in found["hits"]["hits"]] == [107.0]
        engine.index("articles-by-command").create(META)  # beside the template
        assert engine.index("articles-by-command").meta() == META
        engine.index("articles-by-command").delete()
        engine.request("DELETE", "/articles-by-hand")
    finally:
        engine.request("DELETE", "/_index_template/articles")
