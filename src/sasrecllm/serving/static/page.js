// The page asks the same API as everybody else.
import { $, PAUSE, later, make, named, short, titled } from "./parts.js";
import { wishes } from "./wishes.js";

const SHOWN = 10, ASKED = 100;
// Beside this script, so under whatever path a proxy shows the server.
const ROOT = new URL(".", import.meta.url);
const state = { history: [], user: null, key: null, added: new Set(), newest: null, asked: 0 };
const CHIPS = {
  cold_user: "new to the model: your history speaks for you",
  fallback: "popular titles: nothing is known of you yet",
  cold_item: "not rated yet: its words speak for it",
};

function say(parts, wrong = false) {
  $("status").replaceChildren(...[].concat(parts));
  $("status").classList.toggle("error", wrong);
}

async function call(method, path, body) {
  const headers = { "content-type": "application/json" };
  if (state.key) headers.authorization = `Bearer ${state.key}`;
  let answer;
  try {
    answer = await fetch(new URL(path, ROOT), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const got = await answer.json().catch(() => ({}));
  if (answer.ok) return got;
  if (answer.status === 401) $("key-form").hidden = false;
  throw new Error(wrong(answer, got));
}

function wrong(answer, got) {
  if (answer.status === 401) return state.key ? "That is not this server's key." : "This server wants its key: fill it in above.";
  const what = (got.errors || []).map((e) => e.what).join("; ");
  const wait = answer.headers.get("retry-after");
  return `${got.detail || got.title || `Error ${answer.status}`}${what ? `: ${what}` : ""}${wait ? `; try again in ${wait} s` : ""}`;
}

function about() {
  return { user_id: state.user, history: state.history.map((h) => ({ item_id: h.item_id, liked: h.liked })) };
}

// The lists ------------------------------------------------------------------------------------------

async function refresh() {
  const ticket = ++state.asked;
  try {
    const [got, first] = await Promise.all([
      call("POST", "v1/recommend", { ...about(), ...wish.without(), ...wish.ordered(), k: ASKED }),
      call("POST", "v1/recommend", { ...about(), ...wish.without(), k: SHOWN, rerank: false }),
    ]);
    if (ticket !== state.asked) return;
    const lines = got.recommendations;
    const back = focusKept();
    $("both").replaceChildren(...lines.slice(0, SHOWN).map(card));
    $("alone").replaceChildren(...alone(first.recommendations, lines));
    back();
    say(summary(lines, got.fallback));
    flags(lines);
    landed(lines);
  } catch (error) {
    if (ticket === state.asked) say(error.message, true);
  }
}

const refreshSoon = later(refresh, PAUSE);
const wish = wishes(call, say, refreshSoon);

function summary(lines, fallback) {
  if (!lines.length) return "Nothing is left to recommend.";
  const rest = fallback ? "Nothing is known of you yet, so this is what is good for anybody." : "+ or − a title and the lists change.";
  return [`First of ${lines.length}: “`, named(lines[0].title), `”. ${rest}`];
}

// What is said of the person is the same in every line; it stands once above the list.
function flags(lines) {
  const said = (lines[0]?.flags || []).filter((f) => f !== "cold_item");
  $("flags").replaceChildren(...said.map(chip));
}

function chip(flag) {
  return make("span", { className: "chip", textContent: CHIPS[flag] || flag });
}

// The encoder's own order, each title with its place among SASRecLLM's first hundred.
function alone(lines, both) {
  const places = new Map(both.map((l) => [l.item_id, l.rank]));
  return lines.map((l) => plain(l, places.get(l.item_id) ?? `behind the first ${both.length}`));
}

// New lines take the old ones' place: the keyboard stays where it was.
function focusKept() {
  const held = document.activeElement, row = held.closest?.(".cards > li");
  if (!row || !held.dataset.does) return () => {};
  const list = row.parentElement, place = [...list.children].indexOf(row);
  return () => list.children[Math.min(place, list.children.length - 1)]?.querySelector(`[data-does=${held.dataset.does}]`)?.focus();
}

function card(line) {
  const percent = Math.round(100 * line.probability);
  const why = make("div", { className: "why", hidden: true });
  why.setAttribute("aria-live", "polite");
  const ask = make("button", { type: "button", textContent: "Why?" });
  ask.dataset.does = "why";
  ask.setAttribute("aria-expanded", "false");
  ask.setAttribute("aria-label", `Why ${short(line.title)}?`);
  ask.onclick = () => toggleWhy(line, why, ask);
  const place = line.retrieval_rank === null ? "not among SASRec's first" : `SASRec: ${line.retrieval_rank}`;
  const meter = make("meter", { min: 0, max: 100, value: percent });
  meter.setAttribute("aria-label", `probability ${percent} %`);
  const item = make("li", { className: state.added.has(line.item_id) ? "new" : "" },
    make("div", { className: "top" }, make("span", { className: "rank", textContent: line.rank }),
      titled(line.title),
      make("span", { className: "p", textContent: `${percent} %` })),
    meter,
    make("div", { className: "facts" }, make("span", { textContent: place }),
      judge(line, true), judge(line, false), ask, wish.never(line),
      ...line.flags.filter((f) => f === "cold_item").map(chip)),
    why);
  item.dataset.item = line.item_id;
  return item;
}

function plain(line, place) {
  const item = make("li", {},
    make("div", { className: "top" }, make("span", { className: "rank", textContent: line.rank }),
      titled(line.title)),
    make("div", { className: "facts" }, make("span", { textContent: `SASRecLLM: ${place}` }), judge(line, true), judge(line, false), wish.never(line)));
  item.dataset.item = line.item_id;
  return item;
}

async function toggleWhy(line, why, button) {
  why.hidden = !why.hidden;
  button.setAttribute("aria-expanded", String(!why.hidden));
  if (why.hidden || why.childNodes.length) return;
  why.textContent = "Asking …";
  try {
    const { explanation } = await call("POST", "v1/explain", { ...about(), item_id: line.item_id });
    why.replaceChildren(...reasons(explanation));
  } catch (error) {
    why.textContent = error.message;
  }
}

// Titles with commas between them.
function listed(lines) {
  return lines.flatMap((line, place) => (place ? [", ", named(line.title)] : [named(line.title)]));
}

function reasons(e) {
  const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2);
  const names = { llm: "words", encoder: "crowd (SASRec)" };
  const shares = Object.entries(e.shares).filter(([k, v]) => names[k] || Math.abs(v) >= 0.005)
    .map(([k, v]) => `${names[k] || k} ${signed(v)}`).join(", ");
  const carried = e.reasons.filter((r) => r.drop > 0).slice(0, 3)
    .map((r) => make("li", {}, named(r.title), ` (without it ${Math.round(100 * r.probability_without)} %)`));
  const near = listed(e.nearest.filter((n) => n.cosine > 0));
  return [
    make("p", { textContent: `Against an average question: ${shares}` }),
    ...(carried.length ? [make("p", { textContent: "Carried by what you liked:" }), make("ul", {}, ...carried)] : []),
    ...(near.length ? [make("p", {}, "Nearest liked: ", ...near)] : []),
  ];
}

// The history ----------------------------------------------------------------------------------------

function judge(item, liked) {
  const button = make("button", { type: "button", textContent: liked ? "+" : "−" });
  button.dataset.does = liked ? "like" : "dislike";
  button.title = liked ? "Like" : "Dislike";
  button.setAttribute("aria-label", `${button.title} ${short(item.title)}`);
  button.onclick = () => {
    state.history = state.history.filter((h) => h.item_id !== item.item_id);
    state.history.push({ item_id: item.item_id, title: item.title, liked });
    showHistory();
    refreshSoon();
  };
  return button;
}

function showHistory() {
  $("history-empty").hidden = state.history.length > 0 || state.user !== null;
  $("history").replaceChildren(...state.history.map((h, place) => {
    const gone = make("button", { type: "button", textContent: "×" });
    gone.setAttribute("aria-label", `Remove ${short(h.title)}`);
    gone.onclick = () => {
      state.history.splice(place, 1);
      showHistory();
      refreshSoon();
      (document.querySelectorAll("#history button")[Math.min(place, state.history.length - 1)] || $("query")).focus();
    };
    const said = h.liked ? "liked" : "disliked";
    return make("li", {}, make("span", { className: `mark ${said}`, textContent: h.liked ? "+" : "−", ariaHidden: "true" }),
      make("span", { className: "hidden", textContent: `${said}: ` }), titled(h.title), gone);
  }));
}

const search = later(async () => {
  const query = $("query").value.trim();
  try {
    const got = query ? await call("GET", `v1/items?limit=8&query=${encodeURIComponent(query)}`) : { items: [], total: 0 };
    if (query !== $("query").value.trim()) return;
    const rows = got.items.map((item) => make("li", {}, titled(item.title), judge(item, true), judge(item, false)));
    const soft = (textContent) => make("li", { className: "soft", textContent });
    const near = got.items.findIndex((item) => item.near);
    if (near >= 0) rows.splice(near, 0, soft("Near in meaning:"));
    if (query && !got.total) rows.unshift(soft("No title has all these words."));
    $("found").replaceChildren(...rows);
  } catch (error) {
    say(error.message, true);
  }
}, PAUSE);

const suggestUsers = later(async () => {
  const got = await call("GET", `v1/users?limit=8&query=${encodeURIComponent($("user").value)}`).catch(() => ({ user_ids: [] }));
  $("users").replaceChildren(...got.user_ids.map((u) => make("option", { value: u })));
}, PAUSE);

async function beUser(id) {
  try {
    const known = await call("GET", `v1/users/${encodeURIComponent(id)}`);
    state.user = id;
    const liked = listed(known.history.filter((h) => h.liked).slice(-3));
    $("about").replaceChildren("You are ", named(id), known.known ? "" : ", who is new here", ...(liked.length ? ["; you last liked ", ...liked] : []), ".");
    showHistory();
    await refresh();
  } catch (error) {
    say(error.message, true);
  }
}

async function addItem(title) {
  const id = `new-${Date.now().toString(36)}`;
  try {
    await call("PUT", "v1/items", { items: [{ item_id: id, title }] });
    state.added.add(id);
    state.newest = { id, title };
    $("landed").replaceChildren("“", named(title), "” is in the catalogue.");
    $("new-title").value = "";
    await refresh();
  } catch (error) {
    $("landed").textContent = error.message;
  }
}

// Where the newest item stands, said again whenever the lists change.
async function landed(lines) {
  const item = state.newest, ticket = state.asked;
  if (item === null) return;
  const line = lines.find((l) => l.item_id === item.id);
  if (line) {
    $("landed").replaceChildren("“", named(item.title), `” lands on place ${line.rank} of ${lines.length}: ${Math.round(100 * line.probability)} %.`);
  } else if (state.history.some((h) => h.item_id === item.id)) {
    $("landed").replaceChildren("“", named(item.title), "” is in your history, so it is not recommended.");
  } else {
    const { scores } = await call("POST", "v1/score", { ...about(), item_ids: [item.id] }).catch(() => ({ scores: [] }));
    if (ticket === state.asked && scores.length) $("landed").replaceChildren("“", named(item.title), `”: ${Math.round(100 * scores[0].probability)} %, behind the first ${lines.length}.`);
  }
}

// The doors ------------------------------------------------------------------------------------------

const submit = (id, work) => $(id).addEventListener("submit", (event) => { event.preventDefault(); work(); });
$("query").addEventListener("input", search);
$("user").addEventListener("input", suggestUsers);
submit("search-form", search);
submit("user-form", () => $("user").value.trim() && beUser($("user").value.trim()));
submit("new-form", () => $("new-title").value.trim() && addItem($("new-title").value.trim()));
submit("key-form", () => { state.key = $("key").value.trim(); $("key").value = ""; $("key-form").hidden = true; start(); });
$("reset").onclick = () => { Object.assign(state, { history: [], user: null }); wish.forget(); $("about").textContent = "A new start."; showHistory(); refresh(); };

async function start() {
  const ready = await call("GET", "readyz").catch(() => null);
  if (ready) $("model").replaceChildren("Run ", named(ready.run), `, model ${ready.model}.`);
  showHistory();
  await refresh();
}

start();
