"""The compose files keep to this machine, to fixed versions and to passwords of the user's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import servers

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
        assert ("healthcheck" in service) == ("ports" in service)


def test_every_password_comes_from_the_example_s_variables() -> None:
    example = (COMPOSE / ".env.example").read_text()
    names = set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
    used = set()
    for path in COMPOSE.glob("*.yml"):
        text = path.read_text()
        used |= set(re.findall(r"\$\{(\w+):\?", text))
        assert not re.findall(r"\$\{\w+\}", text)  # one that is unset would be an empty password
    assert used == names
