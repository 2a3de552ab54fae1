"""The public entrance: `connect` gives an `Engine`, and that an `Index` for each name."""

from __future__ import annotations

from types import TracebackType

from splade_es.arguments import checked
from splade_es.engines import base
from splade_es.engines.connect import connect_engine
from splade_es.index_handle import Index


@checked
def connect(url: str | None = None) -> Engine:
    """Connect to Elasticsearch, OpenSearch, or the local engine.

    Parameters
    ----------
    url : str, optional
        "http://host:9200"; several hosts of one cluster with commas between them, tried in turn;
        "cloud:CLOUD_ID" of Elastic Cloud; "local:DIR" for the local engine in that directory.
        Without a URL it is the local engine in $SPLADE_ES_HOME, or else in the user's data
        directory. A server is asked whether it is Elasticsearch or OpenSearch.

    Returns
    -------
    Engine
        Close it at the end, or use it in `with`.

    Raises
    ------
    EngineError
        The URL is invalid, or there is neither of the two servers behind it.
    Unavailable
        The server does not answer.

    Notes
    -----
    Credentials come from the URL or from these environment variables: SPLADE_ES_API_KEY,
    SPLADE_ES_BEARER_TOKEN, or SPLADE_ES_USERNAME and SPLADE_ES_PASSWORD, each secret also as a file
    (SPLADE_ES_PASSWORD_FILE and so on); for https also SPLADE_ES_CA_CERT,
    SPLADE_ES_CERT_FINGERPRINT, SPLADE_ES_CLIENT_CERT, SPLADE_ES_CLIENT_KEY, SPLADE_ES_INSECURE and
    SPLADE_ES_AWS_REGION. HTTP_PROXY, HTTPS_PROXY and NO_PROXY have no effect: a server is connected
    to directly.

    Elastic Cloud Serverless and Amazon OpenSearch Serverless are refused.
    """
    return Engine(connect_engine(url))


class Engine:
    """A search engine. Made by `connect`; safe to use from several threads.

    Attributes
    ----------
    name : {"local", "opensearch", "elasticsearch"}
        Which engine it is.
    version : str
        Its version; "" where the server does not report it.
    where : str
        URL without credentials, or the directory of the local engine.
    """

    def __init__(self, engine: base.Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.version = engine.version
        self.where = engine.where

    @checked
    def index(self, name: str) -> Index:
        """A handle of an index or an alias. Nothing is sent, and it need not exist."""
        return Index(self._engine, name)

    def indices(self) -> list[str]:
        """Names of the indices that splade-es made, or added features to, sorted."""
        return self._engine.indices()

    def close(self) -> None:
        """Release connections, locks and files. Safe to call twice."""
        self._engine.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Engine {self.name} {self.version} at {self.where}>"
