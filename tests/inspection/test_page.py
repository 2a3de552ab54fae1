"""The page of an index: its API on every engine, and the page itself in a browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
from playwright.sync_api import Browser, Page, expect, sync_playwright

from command_line import run
from models import TEXTS
from splade_es.encoders.load import load_document_encoder
from splade_es.engines.connect import connect_engine
from splade_es.errors import Unavailable
from splade_es.features import token_of
from splade_es.inspection.page.app import listen, make_app
from splade_es.inspection.page.server import make_server
from splade_es.search.searcher import Searcher

ATTACK = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"


@contextmanager
def serving(searcher: Searcher, seconds: float = 10.0) -> Iterator[str]:
    documents = load_document_encoder(
        searcher.encoder.name, searcher.meta.max_length, interactive=True
    )
    app = make_app(searcher, documents, ["127.0.0.1"])
    with listen("127.0.0.1", 0) as listening:
        server = make_server(app, seconds=seconds)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def ask(url: str, path: str, body: Any = None, **parameters: str) -> tuple[int, Any]:
    with urllib3.PoolManager() as http:
        if body is None:
            answer = http.request("GET", url + path, fields=parameters)
        else:
            answer = http.request("POST", url + path, json=body)
        return answer.status, json.loads(answer.data)


def test_the_api_on_every_engine(searcher: Searcher) -> None:
    query = "heart pain"
    with serving(searcher) as url:
        status, about = ask(url, "/api/index")
        assert status == 200 and about["documents"] == searcher.index.count()

        expected = searcher.search(query, 10, contributions=True)
        status, exact = ask(url, "/api/search", {"query": query})
        assert [(hit["id"], hit["score"]) for hit in exact["hits"]] == [
            (hit.id, hit.score) for hit in expected
        ]
        first = {part["token"]: part["score"] for part in exact["hits"][0]["contributions"]}
        assert first == {token_of(f): s for f, s in expected[0].contributions.items()}
        assert [t["token"] for t in exact["tokens"]] == [
            token_of(clause.feature) for clause in searcher.query(query)
        ]
        assert 0 < exact["engine_ms"] < exact["took_ms"]

        strongest = exact["tokens"][0]["token"]
        _, muted = ask(url, "/api/search", {"query": query, "factors": {strongest: 0}})
        for hit in muted["hits"]:
            assert strongest not in {part["token"] for part in hit["contributions"]}
        _, doubled = ask(url, "/api/search", {"query": query, "factors": {strongest: 2}, "k": 100})
        twice = {hit["id"]: hit for hit in doubled["hits"]}[expected[0].id]
        parts = {part["token"]: part["score"] for part in twice["contributions"]}
        assert parts[strongest] == pytest.approx(2 * first[strongest], rel=1e-5)
        everything = {token["token"]: 0 for token in exact["tokens"]}
        status, nothing = ask(url, "/api/search", {"query": query, "factors": everything})
        assert (status, nothing["error"]) == (400, "Every token of the query is muted")

        _, pruned = ask(url, "/api/search", {"query": query, "mode": "pruned", "top_k": 2})
        assert all(1 <= len(hit["contributions"]) <= 2 for hit in pruned["hits"])
        _, bm25 = ask(url, "/api/search", {"query": query, "mode": "bm25"})
        (ranked,) = searcher.index.search_bm25([query], 10)
        assert [(hit["id"], hit["score"]) for hit in bm25["hits"]] == ranked
        _, hybrid = ask(url, "/api/search", {"query": query, "mode": "hybrid", "k": 3})
        (words,) = searcher.index.search_bm25([query], 100)
        (tokens,) = searcher.index.search_many([searcher.query(query)], 100)
        places = [{hit.id: n for n, hit in enumerate(found, 1)} for found in (words, tokens)]
        for hit in hybrid["hits"]:
            score = sum(1 / (60 + place[hit["id"]]) for place in places if hit["id"] in place)
            assert hit["score"] == pytest.approx(score)
        assert hybrid["hits"][0]["text"]

        _, why = ask(url, "/api/explain", {"query": query, "id": "heart"})
        assert why["body"] == TEXTS["heart"]
        assert any(part["document_word"] for part in why["contributions"])
        for part in why["contributions"]:
            assert why["body"][part["start"] : part["end"]] == part["document_word"]
        _, vector = ask(url, "/api/document", id="heart")
        stored = {token["token"]: token["stored"] for token in vector}
        assert {part["token"]: part["stored"] for part in why["contributions"]}.items() <= (
            stored.items()
        )
        assert not {token["token"] for token in vector if token["new"]} & {"heart", "attack"}

        remembered = searcher.meta
        searcher.meta = replace(remembered, scale=50.0)
        status, moved = ask(url, "/api/search", {"query": query})
        assert (status, moved["hint"]) == (409, "Restart splade-es serve.")
        searcher.meta = remembered
        for path, body in (("/api/search", {"query": " "}), ("/api/search", {"query": "☃"})):
            assert ask(url, path, body)[0] == 400
        assert ask(url, "/api/explain", {"query": query, "id": "nowhere"})[0] == 400
        for bad in ({"query": "a" * 100_001}, {"query": "a", "factors": {"a": -1}}, {}):
            status, refused = ask(url, "/api/search", bad)
            assert status == 422 and set(refused) == {"error", "hint"}
        assert ask(url, "/api/document", id="empty")[0] == 400
        status, long = ask(url, "/api/search", {"query": "heart attack " * 1000})
        assert status == 200 and long["hits"]


def test_the_api_is_described_and_asked_by_no_other_name(searcher: Searcher) -> None:
    with serving(searcher) as url, urllib3.PoolManager() as http:
        described = json.loads(http.request("GET", f"{url}/openapi.json").data)
        assert set(described["paths"]) == {
            "/api/index", "/api/search", "/api/explain", "/api/document",
        }  # fmt: skip
        for path in described["paths"].values():
            for operation in path.values():
                assert operation["description"]
        other = http.request("GET", f"{url}/api/index", headers={"host": "evil.example"})
        assert other.status == 400
        page = http.request("GET", url)
        assert page.headers["content-security-policy"].startswith("default-src 'self'")


def test_the_command_says_what_is_missing(home: Path, corpus_file: Path, tiny_model: str) -> None:
    assert run("index", corpus_file, "--model", tiny_model, "--index", "texts").exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--index", "texts", "--port", port)
    assert result.exit_code == 1
    assert f"Nothing can listen at 127.0.0.1:{port} (Address already in use" in result.stderr
    assert "There is no index 'nothing'" in run("serve", "--index", "nothing").stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "", "127.0.0.1"])
def test_who_can_reach_the_page_is_said_however_the_host_is_written(
    home: Path, corpus_file: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    assert run("index", corpus_file, "--model", tiny_model, "--index", "texts").exit_code == 0
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    result = run("serve", "--index", "texts", "--host", host, "--port", "0")
    assert result.exit_code == 0
    assert ("Everyone who reaches this machine" in result.stderr) == (host != "127.0.0.1")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        assert "CI" not in os.environ, "no Chromium"
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which nothing may go wrong behind the scenes."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    yield page
    page.close()
    expected = ("the server responded with a status of", "ERR_CONNECTION_REFUSED")
    assert not [text for text in problems if not any(part in text for part in expected)]


@pytest.fixture
def local(tmp_path: Path, home: Path, tiny_model: str) -> Iterator[Searcher]:
    """TEXTS, and documents that would take over a page that lets them."""
    lines = [{"_id": id, "title": f"About {id}", "text": text} for id, text in TEXTS.items()]
    lines.append({"_id": f"x{ATTACK}", "title": ATTACK, "text": f"heart {ATTACK}", "note": ATTACK})
    lines.append({"_id": "smile", "text": "😀 the heart 😀 and pain"})
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run("index", corpus, "--model", tiny_model, "--index", "texts").exit_code == 0
    engine = connect_engine(None)
    yield Searcher(engine.index("texts"), interactive=True)
    engine.close()


def search(page: Page, text: str) -> None:
    page.get_by_role("searchbox").fill(text)
    page.get_by_role("button", name="Search").click()


def test_a_person_searches_and_sees_why(local: Searcher, page: Page) -> None:
    with serving(local) as url:
        page.goto(url)
        expect(page.locator("#about")).to_contain_text("texts · 7 documents · local")
        search(page, "heart attack")
        expect(page.get_by_role("status")).to_contain_text("7 results in")
        hits = local.search("heart attack", 10)
        headings = [hit.source["title"] or hit.id for hit in hits]
        assert page.locator("article h3").all_inner_texts() == headings
        heart = page.locator("article", has_text="About heart")
        expect(heart.locator("mark").first).to_be_visible()  # shaded without being asked
        heart.get_by_text("Why, by the query's own weights").click()
        expect(heart.locator("table").first).to_contain_text("document word")
        heart.get_by_text("The whole vector").click()
        expect(heart).to_contain_text("of them not in the text")
        smile = page.locator("article", has_text="smile")
        expect(smile.locator("mark").first).to_be_visible()
        for mark in smile.locator("mark").all():  # characters are counted alike on both sides
            assert mark.inner_text() in {"the", "heart", "and", "pain", "😀"}


def test_a_token_is_muted_by_keyboard_and_the_ranking_moves(local: Searcher, page: Page) -> None:
    with serving(local) as url:
        page.goto(url)
        page.keyboard.type("heart attack")  # the search box has the focus
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("results in")
        before = page.locator("article h3").all_inner_texts()
        tokens = page.locator("#tokens li").all()
        assert len(tokens) == len(local.query("heart attack"))
        for row in tokens[:-1]:
            slider = row.get_by_role("slider")
            slider.focus()
            page.keyboard.press("Home")
            expect(slider).to_have_attribute("aria-valuetext", "muted")
        token = tokens[-1].locator("span").first.inner_text()
        expect(page.locator("article .chips li").first).to_contain_text(token)
        expect(page.locator("article .chips").first.locator("li")).to_have_count(1)
        after = page.locator("article h3").all_inner_texts()
        assert after != before
        expect(tokens[-2].get_by_role("slider")).to_be_focused()  # it was not made anew
        tokens[-1].get_by_role("slider").focus()
        page.keyboard.press("Home")
        expect(page.get_by_role("status")).to_contain_text("Every token of the query is muted")
        page.get_by_role("button", name="Reset").click()
        expect(page.locator("article h3")).to_have_count(len(before))
        assert page.locator("article h3").all_inner_texts() == before


def test_rankings_side_by_side(local: Searcher, page: Page) -> None:
    with serving(local) as url:
        page.goto(url)
        search(page, "heart attack")
        page.get_by_role("radio", name="side by side").check()
        expect(page.get_by_role("heading", level=2)).to_have_text(
            ["What the query asks for", "All tokens", "The strongest tokens", "Tokens and BM25"]
        )
        page.get_by_role("radio", name="tokens and BM25").check()
        expect(page.locator("section h2").last).to_have_text("Tokens and BM25")
        expect(page.locator("article").first).to_contain_text("heart")


def test_documents_cannot_take_over_the_page(local: Searcher, page: Page) -> None:
    with serving(local) as url:
        page.goto(url)
        search(page, "heart attack")
        attack = page.locator("article", has_text=ATTACK).first
        expect(attack.locator("h3")).to_have_text(ATTACK)
        expect(attack.locator(".score")).to_contain_text(f"x{ATTACK}")
        attack.get_by_text("Why, by the query's own weights").click()
        attack.get_by_text("The whole vector").click()
        expect(attack.locator("table")).to_have_count(2)
        search(page, f"heart {ATTACK}")
        expect(page.get_by_role("status")).to_contain_text("results in")
        assert page.title() == "texts · splade-es"
        assert page.locator("img").count() == 0


def test_nothing_found_a_long_query_and_a_server_that_is_gone(
    local: Searcher, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(local) as url:
        page.goto(url)
        search(page, "")
        expect(page.get_by_role("status")).to_have_text("The query is empty. Give it some words.")
        search(page, "☃")
        expect(page.get_by_role("status")).to_contain_text("The model finds no term")
        search(page, "heart " * 1700)
        expect(page.get_by_role("status")).to_contain_text("results in")
        with monkeypatch.context() as patch:
            patch.setattr(type(local.index), "search", lambda *args, **named: [])
            search(page, "heart")
            expect(page.get_by_role("status")).to_have_text(
                "No document has a token of this query."
            )

            def down(*args: Any, **named: Any) -> Any:
                raise Unavailable("No answer from opensearch at http://x:9200", "Check the URL.")

            patch.setattr(type(local.index), "search", down)
            search(page, "heart")
            expect(page.get_by_role("status")).to_have_text(
                "No answer from opensearch at http://x:9200. Check the URL."
            )
    search(page, "heart")
    expect(page.get_by_role("status")).to_have_text(
        "No answer from splade-es: is it still running?"
    )


def test_an_index_with_nothing_but_vectors(
    page: Page, tmp_path: Path, home: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a backfill makes it of documents that keep their text elsewhere."""
    (tmp_path / "c.jsonl").write_text(json.dumps({"_id": "a", "text": "heart attack"}) + "\n")
    assert (
        run("index", tmp_path / "c.jsonl", "--model", tiny_model, "--index", "bare").exit_code == 0
    )
    engine = connect_engine(None)
    bare = engine.index("bare")
    real = type(bare).search
    monkeypatch.setattr(
        type(bare),
        "search",
        lambda *args, **named: [hit._replace(source={}) for hit in real(*args, **named)],
    )
    monkeypatch.setattr(type(bare), "documents", lambda *args: [])
    with serving(Searcher(bare, interactive=True)) as url:
        page.goto(url)
        search(page, "heart")
        expect(page.locator("article")).to_contain_text("(no text is stored)")
        page.get_by_text("Why, by the query's own weights").click()
        expect(page.locator("article table")).to_be_visible()
        page.get_by_text("The whole vector").click()
        expect(page.locator("article")).to_contain_text("no text of the document 'a'")
    engine.close()


def test_a_phone(local: Searcher, page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    with serving(local) as url:
        page.goto(url)
        search(page, "heart attack")
        page.get_by_text("Why, by the query's own weights").first.click()
        expect(page.locator("table").first).to_be_visible()
        page.get_by_role("radio", name="side by side").check()
        expect(page.locator("#results.compare section")).to_have_count(3)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
