"""Elasticsearch with TLS and security: who is let in, with how few rights, and what one is told."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import trustme

from servers import (
    ELASTICSEARCH,
    LOADER,
    LOADER_PRIVILEGES,
    PASSWORD,
    USER,
    or_skip,
    running_server,
)

Completed: TypeAlias = "subprocess.CompletedProcess[str]"
KEY = "key-that-nobody-may-see"


class Secured(NamedTuple):
    """url: without credentials; ca: the private CA; files: ca.pem, client.pem, server.pem, and
    other.pem of another CA; config: the server's own copy."""

    url: str
    ca: trustme.CA
    files: Path
    config: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Certificates of a private CA; a client must have one, too."""
    files = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(files / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(files / "other.pem"))
    ca.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(files / "client.pem")
    )
    write_certificate(ca, files)
    settings = {
        "xpack.security.http.ssl.enabled": "true",
        "xpack.security.http.ssl.client_authentication": "required",
        "xpack.security.http.ssl.key": "server.key",
        "xpack.security.http.ssl.certificate": "server.pem",
        "xpack.security.http.ssl.certificate_authorities": "ca.pem",
        "resource.reload.interval.high": "1s",
    }
    with or_skip(), running_server("elasticsearch", ELASTICSEARCH, files, **settings) as server:
        url = server.url.replace(f"{USER}:{PASSWORD}@", "")
        yield Secured(url, ca, files, server.folder / "elasticsearch/config")


def write_certificate(ca: trustme.CA, folder: Path, **options: Any) -> None:
    certificate = ca.issue_cert("127.0.0.1", **options)
    certificate.private_key_pem.write_to_path(str(folder / "server.key"))
    (pem,) = certificate.cert_chain_pems[:1]
    pem.write_to_path(str(folder / "server.pem"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "a", "text": "heart attack"}\n{"_id": "b", "text": "milk bone"}\n')
    return path


def command(secured: Secured, *args: object, **environment: str) -> Completed:
    """In a process of its own, so that all it prints and logs is seen."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("SPLADE_ES_")}
    variables |= {
        "SPLADE_ES_URL": secured.url,
        "SPLADE_ES_CA_CERT": str(secured.files / "ca.pem"),
        "SPLADE_ES_CLIENT_CERT": str(secured.files / "client.pem"),
        "SPLADE_ES_USERNAME": USER,
        "SPLADE_ES_PASSWORD": PASSWORD,
    }
    variables |= {f"SPLADE_ES_{name}": value for name, value in environment.items()}
    variables = {name: value for name, value in variables.items() if value}
    program = "from splade_es.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)], env=variables, capture_output=True,
        text=True, cwd=secured.files,
    )  # fmt: skip


def one_line(result: Completed) -> str:
    """The error of a command that must fail. No secret is anywhere in what it printed."""
    printed = result.stdout + result.stderr
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, KEY, basic, "Traceback"):
        assert secret not in printed
    assert result.returncode == 1 and result.stderr.count("\n") == 1, printed
    return result.stderr


def test_a_private_ca_and_a_client_certificate(
    secured: Secured, corpus: Path, tiny_model: str
) -> None:
    loaded = command(secured, "index", corpus, "--model", tiny_model, "--index", "safe")
    assert loaded.returncode == 0, loaded.stderr
    found = command(secured, "search", "heart", "--index", "safe", "--json")
    assert {json.loads(line)["id"] for line in found.stdout.splitlines()} == {"a", "b"}
    no_certificate = one_line(command(secured, "info", CLIENT_CERT=""))
    assert "certificate required" in no_certificate.lower() or "No answer" in no_certificate


def test_the_certificate_may_be_known_by_its_fingerprint(secured: Secured) -> None:
    pem = (secured.files / "server.pem").read_text()
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    with_colons = ":".join(fingerprint[n : n + 2] for n in range(0, 64, 2)).upper()
    assert command(secured, "info", CA_CERT="", CERT_FINGERPRINT=with_colons).returncode == 0
    other = "0" * 64
    assert "SPLADE_ES_CERT_FINGERPRINT" in one_line(
        command(secured, "info", CA_CERT="", CERT_FINGERPRINT=other)
    )


def test_insecure_warns_and_connects(secured: Secured) -> None:
    result = command(secured, "info", "--insecure", CA_CERT=str(secured.files / "other.pem"))
    assert result.returncode == 0
    assert result.stderr.splitlines() == ["--insecure: the server's certificate is not verified."]


def test_what_is_wrong_is_said_in_one_line(secured: Secured) -> None:
    other = str(secured.files / "other.pem")
    wrong_ca = one_line(command(secured, "info", CA_CERT=other))
    assert "No trusted TLS connection" in wrong_ca and "SPLADE_ES_CA_CERT" in wrong_ca
    wrong_password = one_line(command(secured, "info", PASSWORD="not it"))
    assert "answers 401" in wrong_password and "not it" not in wrong_password
    wrong_key = one_line(command(secured, "info", API_KEY=KEY))
    assert "answers 401" in wrong_key
    no_tls = one_line(command(secured, "info", URL=secured.url.replace("https", "http")))
    assert "No answer from" in no_tls


def test_the_loader_needs_no_more_than_its_index(
    secured: Secured, corpus: Path, tiny_model: str, tmp_path: Path
) -> None:
    """The role of the README: `GET /` and all of the cluster's APIs are refused to it."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    as_loader = {"USERNAME": LOADER, "PASSWORD": "", "PASSWORD_FILE": str(secret)}
    args = ("index", corpus, "--model", tiny_model)
    loaded = command(secured, *args, "--index", "books", **as_loader)
    assert loaded.returncode == 0, loaded.stderr
    found = command(secured, "search", "heart", "--index", "books", "--json", **as_loader)
    assert {json.loads(line)["id"] for line in found.stdout.splitlines()} == {"a", "b"}
    again = command(secured, *args, "--index", "books", "--delete-missing", "--json", **as_loader)
    assert json.loads(again.stdout)["unchanged"] == 2, again.stderr
    line = one_line(command(secured, *args, "--index", "films", **as_loader))
    assert "answers 403" in line and "films" in line
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert all(f"`{privilege}`" in readme for privilege in LOADER_PRIVILEGES)

    for result in (loaded, found, again):
        assert PASSWORD not in result.stdout + result.stderr


def test_an_expired_certificate(secured: Secured) -> None:
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    write_certificate(secured.ca, secured.config, not_after=past)
    deadline = time.monotonic() + 60
    while (result := command(secured, "info")).returncode == 0:  # until it reads its files again
        assert time.monotonic() < deadline
    line = one_line(result)
    assert "certificate has expired" in line and "Its certificate must be renewed." in line
    write_certificate(secured.ca, secured.config)
