// The page of one index. All that comes from documents is set as text, never as HTML.
"use strict";

const VIEWS = { exact: "All tokens", pruned: "The strongest tokens", hybrid: "Tokens and BM25" };
const K = 10;
const $ = (id) => document.getElementById(id);
const state = { query: "", factors: {}, ranks: {}, explanations: new Map(), asked: 0, timer: 0 };

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body && {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("No answer from splade-es: is it still running?");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const said = content.error || `The answer is ${answer.status}`;
    throw new Error(content.hint ? `${said}. ${content.hint}` : said);
  }
  return content;
}

function tell(text, failed = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", failed);
}

const chosen = () => document.querySelector("input[name=view]:checked").value;

async function search() {
  const mine = ++state.asked;
  const view = chosen();
  const modes = view === "compare" ? Object.keys(VIEWS) : [view];
  tell("Searching …");
  let answers;
  try {
    answers = await Promise.all(modes.map((mode) => ask("api/search", {
      query: state.query, mode, k: K, factors: state.factors,
    })));
  } catch (error) {
    if (mine === state.asked) {
      $("results").replaceChildren();
      tell(error.message, true);
    }
    return;
  }
  if (mine !== state.asked) return; // a later search is under way
  showTokens(answers[0].tokens);
  $("results").classList.toggle("compare", view === "compare");
  $("results").replaceChildren(...answers.map((answer, n) => list(modes[n], answer, answers.length > 1)));
  const slowest = Math.max(...answers.map((answer) => answer.took_ms));
  const engine = Math.max(...answers.map((answer) => answer.engine_ms));
  const found = answers[0].hits.length;
  tell(found
    ? `${found} results in ${slowest.toFixed(0)} ms, ${engine.toFixed(0)} ms of them the engine's`
    : "No document has a token of this query.");
  if (view === "compare") return;
  for (const hit of answers[0].hits) {
    try {
      const found = await explanation(hit);
      if (mine !== state.asked) return;
      if (found.body) shade(hit, found);
    } catch {
      return; // the hits are there, if without their shades
    }
  }
}

// Asked for once for each query and document: the shades need it, and who opens it.
function explanation(hit) {
  const known = state.explanations;
  if (!known.has(hit.id)) {
    const asked = ask("api/explain", { query: state.query, id: hit.id });
    known.set(hit.id, asked);
    asked.catch(() => known.delete(hit.id)); // it may pass later
  }
  return known.get(hit.id);
}

function showTokens(tokens) {
  const kept = new Map([...$("tokens").children].map((row) => [row.dataset.token, row]));
  const rows = tokens.map((token) => {
    const row = kept.get(token.token); // keeps the focus on a slider while it is moved
    return row && row.dataset.query === state.query ? row : tokenRow(token);
  });
  if (rows.some((row, n) => row !== $("tokens").children[n]) || rows.length !== kept.size) {
    $("tokens").replaceChildren(...rows);
  }
  $("expansion").hidden = !rows.length;
}

function tokenRow(token) {
  const name = make("span", { title: token.word ? `from ${token.word}` : "" }, token.token);
  const slider = make("input", {
    type: "range", min: 0, max: 2, step: 0.1, value: state.factors[token.token] ?? 1,
    "aria-label": `Weight of ${token.token}`,
  });
  const shown = () => {
    const factor = Number(slider.value);
    name.classList.toggle("muted", factor === 0);
    slider.setAttribute("aria-valuetext", factor === 0 ? "muted" : `times ${factor}`);
  };
  slider.addEventListener("input", () => {
    const factor = Number(slider.value);
    if (factor === 1) delete state.factors[token.token];
    else state.factors[token.token] = factor;
    shown();
    clearTimeout(state.timer);
    state.timer = setTimeout(search, 150);
  });
  shown();
  const row = make("li", {}, name, make("span", { class: "weight" }, token.weight.toFixed(3)), slider);
  row.dataset.token = token.token;
  row.dataset.query = state.query;
  return row;
}

function list(mode, answer, compared) {
  const before = state.ranks[mode] ?? {};
  const ranks = Object.fromEntries(answer.hits.map((hit, n) => [hit.id, n + 1]));
  const hits = answer.hits.map((hit, n) => hitItem(hit, n + 1, before, compared));
  state.ranks[mode] = ranks;
  return make("section", { "aria-label": VIEWS[mode] }, make("h2", {}, VIEWS[mode]), make("ol", {}, ...hits));
}

function hitItem(hit, rank, before, compared) {
  const head = make("div", { class: "head" },
    make("span", { class: "place" }, `${rank}.`),
    make("h3", {}, hit.title || hit.id),
    make("span", { class: "score" }, hit.title ? hit.id : "", ` ${hit.score.toFixed(3)}`));
  if (Object.keys(before).length && before[hit.id] !== rank) {
    const was = before[hit.id];
    const arrow = was === undefined ? "new" : was > rank ? `▲ ${was - rank}` : `▼ ${rank - was}`;
    const said = was === undefined ? "was not shown" : `was ${was}`;
    head.append(make("span", { class: "move", role: "img", "aria-label": said, title: said }, arrow));
  }
  hit.textNode = make("div", { class: "text", tabindex: 0, role: "group", "aria-label": `Text of ${hit.title || hit.id}` },
    hit.text || "(no text is stored)");
  const article = make("article", {}, head, hit.textNode, chips(hit));
  if (!compared) article.append(why(hit), vector(hit));
  return make("li", {}, article);
}

function chips(hit) {
  const shown = hit.contributions.slice(0, 12).map(({ token, score, new: isNew }) => {
    const chip = make("li", { class: isNew ? "new" : "" }, `${token} ${score.toFixed(2)}`);
    if (isNew) {
      chip.title = "not in the text";
      chip.append(make("span", { class: "unseen" }, ", not in the text"));
    }
    return chip;
  });
  if (hit.contributions.length > 12) shown.push(make("li", {}, `${hit.contributions.length - 12} more`));
  return make("ul", { class: "chips", "aria-label": "What the tokens add" }, ...shown);
}

// A part of the page that is asked for when somebody opens it.
function disclosure(label, load) {
  const shown = make("div", { class: "wide", tabindex: 0, role: "group", "aria-label": label });
  const details = make("details", {}, make("summary", {}, label), shown);
  details.addEventListener("toggle", async () => {
    if (!details.open || shown.dataset.state) return;
    shown.dataset.state = "asked";
    shown.replaceChildren(make("p", { role: "status" }, "Loading …"));
    try {
      shown.replaceChildren(...await load());
    } catch (error) {
      shown.replaceChildren(make("p", { role: "status" }, error.message));
      delete shown.dataset.state; // opened once more, it is asked for once more
    }
  });
  return details;
}

function why(hit) {
  return disclosure("Why, by the query's own weights", async () => {
    const found = await explanation(hit);
    const bm25 = found.bm25 === null ? "not among the first 1,000" : `${found.bm25.toFixed(3)}, place ${found.bm25_rank}`;
    return [
      table(["token", "adds", "query", "stored", "query word", "document word"],
        found.contributions.map((part) => [
          part.token, part.score.toFixed(3), part.query_weight.toFixed(3), String(part.stored),
          part.query_word, part.document_word,
        ]), [1, 2, 3]),
      make("p", {}, `Score ${found.score.toFixed(3)}. BM25: ${bm25}.`),
      make("p", {}, found.unmatched.length ? `Not in the document: ${found.unmatched.join(" ")}` : ""),
    ];
  });
}

// Each word of the text, as dark as what it adds to the score of this search.
function shade(hit, found) {
  const scores = new Map(hit.contributions.map(({ token, score }) => [token, score]));
  const spans = new Map();
  for (const part of found.contributions) {
    const score = scores.get(part.token);
    if (score && part.end > part.start) {
      const key = `${part.start}-${part.end}`;
      const span = spans.get(key) ?? { start: part.start, end: part.end, score: 0, tokens: [] };
      span.score += score;
      span.tokens.push(`${part.token} ${score.toFixed(2)}`);
      spans.set(key, span);
    }
  }
  const strongest = Math.max(...[...spans.values()].map((span) => span.score));
  // Python counts characters, JavaScript UTF-16 units.
  const characters = Array.from(found.body);
  const nodes = [];
  let at = 0;
  for (const span of [...spans.values()].sort((a, b) => a.start - b.start)) {
    if (span.start < at) continue;
    nodes.push(characters.slice(at, span.start).join(""));
    const mark = make("mark", { title: span.tokens.join(", ") }, characters.slice(span.start, span.end).join(""));
    mark.style.setProperty("--share", (0.15 + 0.75 * span.score / strongest).toFixed(2));
    nodes.push(mark);
    at = span.end;
  }
  hit.textNode.replaceChildren(...nodes, characters.slice(at).join(""));
}

function vector(hit) {
  return disclosure("The whole vector", async () => {
    const tokens = await ask(`api/document?${new URLSearchParams({ id: hit.id })}`);
    return [
      make("p", {}, `${tokens.length} tokens, ${tokens.filter((token) => token.new).length} of them not in the text`),
      table(["token", "stored", "from"], tokens.map((token) => [token.token, String(token.stored), token.word]), [1]),
    ];
  });
}

function table(columns, rows, numbers) {
  const cell = (tag) => (text, n) => make(tag, numbers.includes(n) ? { class: "number" } : {}, text);
  return make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map(cell("th")))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell("td"))))));
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.query = $("query").value;
  state.factors = {};
  state.ranks = {};
  state.explanations = new Map();
  $("tokens").replaceChildren();
  $("expansion").hidden = true;
  search();
});
document.querySelectorAll("input[name=view]").forEach((radio) => {
  radio.addEventListener("change", () => state.query && search());
});
$("reset").addEventListener("click", () => {
  state.factors = {};
  $("tokens").replaceChildren();
  search();
});
ask("api/index").then((found) => {
  $("about").textContent = `${found.index} · ${found.documents.toLocaleString("en")} documents · `
    + `${found.engine} ${found.version} · ${found.model}`;
  document.title = `${found.index} · splade-es`;
}, (error) => tell(error.message, true));
