"""The command `splade-es serve`."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import click

from splade_es.cli.options import open_engine, query_options


@click.command()
@query_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port to listen at; 0 takes any that is free.",
)
def serve(index_name: str, url: str | None, host: str, port: int, **settings: Any) -> None:
    """Show in a browser how an index answers queries, and why.

    A search box; hits with the words that made their score, the tokens that the model added, the
    query's own tokens with a slider for each, and several rankings side by side. /openapi.json
    describes the API that the page uses. The page has no login: to serve it beyond this machine,
    put a proxy with one before it.

    \b
    Example:
      splade-es serve --index articles --url http://localhost:9200
    """
    try:
        from splade_es.inspection.page.app import listen, make_app
        from splade_es.inspection.page.server import make_server
    except ImportError as error:
        raise click.ClickException(
            "The page needs fastapi and uvicorn. Install them: pip install 'splade-es[serve]'"
        ) from error
    from splade_es.encoders.load import load_document_encoder

    with open_engine(url) as engine:
        searcher = engine.index(index_name).searcher(**settings)
        documents = load_document_encoder(
            searcher.encoder.name, searcher.meta.max_length, interactive=True
        )
        with listen(host, port) as listening:
            address, port = listening.getsockname()[:2]
            # else a page of another site could reach it, by a name that stands for this machine
            hosts = ["127.0.0.1", "localhost", host]
            if ip_address(address).is_unspecified:  # as an empty host or "0" becomes, too
                hosts = ["*"]
                click.echo("Everyone who reaches this machine can search the index.", err=True)
            app = make_app(searcher, documents, hosts)
            click.echo(f"http://{host or address}:{port}  (Ctrl-C ends it)")
            make_server(app).run(sockets=[listening])
