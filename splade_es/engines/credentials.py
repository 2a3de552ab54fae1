"""Credentials, from environment variables or files.

They are never an option of a command, because every user of the machine can read those in the list
of processes. Each of SPLADE_ES_API_KEY, SPLADE_ES_BEARER_TOKEN and SPLADE_ES_PASSWORD may be given
as a file: SPLADE_ES_API_KEY_FILE and so on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

from splade_es.errors import EngineError

#: (method, URL, body) -> the headers that sign them.
Signer: TypeAlias = Callable[[str, str, Any], dict[str, str]]


def authorization(username: str, password: str) -> str:
    """The value of the header `authorization`; "" if there are no credentials.

    username, password: of the URL, which come first; then an API key, a bearer token, and
    SPLADE_ES_USERNAME with its password. Raises EngineError.
    """
    if not username:
        for name, scheme in (("API_KEY", "ApiKey"), ("BEARER_TOKEN", "Bearer")):
            if value := _secret(f"SPLADE_ES_{name}").strip():
                # checked here, because the HTTP library would show it in its error
                if not (value.isascii() and value.isprintable()):
                    raise EngineError(f"SPLADE_ES_{name} contains characters that no key has")
                return f"{scheme} {value}"
        username, password = os.environ.get("SPLADE_ES_USERNAME", ""), _secret("SPLADE_ES_PASSWORD")
        if bool(username) != bool(password):
            raise EngineError(
                "Only one of SPLADE_ES_USERNAME and SPLADE_ES_PASSWORD is set",
                "Set both or neither.",
            )
    if not username:
        return ""
    from elastic_transport.client_utils import basic_auth_to_header

    return basic_auth_to_header((username, password))


def signer() -> Signer | None:
    """What signs requests to Amazon OpenSearch Service, if SPLADE_ES_AWS_REGION is set.

    The credentials are those that AWS's own tools find. Raises EngineError if there are none.
    """
    region = os.environ.get("SPLADE_ES_AWS_REGION")
    if not region:
        return None
    try:
        session: Any = import_module("botocore.session")  # an extra, without types
    except ImportError as error:
        raise EngineError(
            "Requests for AWS are signed by botocore", "Install it: pip install 'splade-es[aws]'"
        ) from error
    from opensearchpy import Urllib3AWSV4SignerAuth

    credentials = session.Session().get_credentials()
    if credentials is None:
        raise EngineError(
            "SPLADE_ES_AWS_REGION is set, but there are no AWS credentials",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        )
    sign: Signer = Urllib3AWSV4SignerAuth(credentials, region, "es")
    return sign


def _secret(name: str) -> str:
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, "")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise EngineError(f"{name}_FILE cannot be read", f"Check the file {path}.") from error
