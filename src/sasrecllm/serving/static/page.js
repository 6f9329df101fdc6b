// The page asks the same API as everybody else.  What comes from data enters by textContent only.
const SHOWN = 10, RETRIEVED = 50, PAUSE = 180;
const $ = (id) => document.getElementById(id);
const state = { history: [], user: null, key: null, added: new Set(), asked: 0 };

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((c) => c !== null));
  return node;
}

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", wrong);
}

async function call(method, path, body) {
  const headers = { "content-type": "application/json" };
  if (state.key) headers.authorization = `Bearer ${state.key}`;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const got = await answer.json().catch(() => ({}));
  if (answer.ok) return got;
  if (answer.status === 401) $("key-form").hidden = false;
  const wait = answer.headers.get("retry-after");
  throw new Error(`${got.detail || got.title || answer.status}${wait ? `; try again in ${wait} s` : ""}`);
}

function about() {
  return { user: state.user, history: state.history.map((h) => ({ item_id: h.item_id, liked: h.liked })) };
}

function later(work, pause) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(work, pause); };
}

// The lists ------------------------------------------------------------------------------------------

async function refresh() {
  const ticket = ++state.asked;
  try {
    const got = await call("POST", "/v1/recommend", { ...about(), k: 100, retrieve: RETRIEVED });
    if (ticket !== state.asked) return;
    const lines = got.recommendations;
    const ranked = lines.filter((l) => l.retrieval_rank !== null).sort((a, b) => a.retrieval_rank - b.retrieval_rank);
    $("both").replaceChildren(...lines.slice(0, SHOWN).map((l) => card(l, l.rank)));
    $("alone").replaceChildren(...ranked.slice(0, SHOWN).map((l) => plain(l, lines)));
    say(got.fallback ? "Nothing is known of you yet, so this is what is good for anybody."
      : `${lines.length} candidates compared. + or − a title and the lists change.`);
    landed(lines);
  } catch (error) {
    if (ticket === state.asked) say(error.message, true);
  }
}

const refreshSoon = later(refresh, PAUSE);

function card(line, rank) {
  const percent = Math.round(100 * line.probability);
  const why = make("div", { className: "why", hidden: true });
  const ask = make("button", { type: "button", textContent: "Why?" });
  ask.setAttribute("aria-expanded", "false");
  ask.setAttribute("aria-label", `Why ${line.title}?`);
  ask.onclick = () => toggleWhy(line, why, ask);
  const place = line.retrieval_rank === null ? "by its words" : `SASRec: ${line.retrieval_rank}`;
  const meter = make("meter", { min: 0, max: 100, value: percent });
  meter.setAttribute("aria-label", `probability ${percent} %`);
  const item = make("li", { className: state.added.has(line.item_id) ? "new" : "" },
    make("div", { className: "top" }, make("span", { className: "rank", textContent: rank }),
      make("span", { className: "title", textContent: line.title }),
      make("span", { className: "p", textContent: `${percent} %` })),
    meter,
    make("div", { className: "facts" }, make("span", { textContent: place }),
      ...line.flags.filter((f) => f === "cold_item").map(() => make("span", { className: "chip", textContent: "new item" })),
      judge(line, true), judge(line, false), ask),
    why);
  item.dataset.item = line.item_id;
  return item;
}

function plain(line, lines) {
  const moved = lines.indexOf(line) + 1;
  const item = make("li", {},
    make("div", { className: "top" }, make("span", { className: "rank", textContent: line.retrieval_rank }),
      make("span", { className: "title", textContent: line.title })),
    make("div", { className: "facts" }, make("span", { textContent: `SASRecLLM: ${moved}` }), judge(line, true), judge(line, false)));
  item.dataset.item = line.item_id;
  return item;
}

async function toggleWhy(line, why, button) {
  why.hidden = !why.hidden;
  button.setAttribute("aria-expanded", String(!why.hidden));
  if (why.hidden || why.childNodes.length) return;
  why.textContent = "Asking …";
  try {
    const { explanation } = await call("POST", "/v1/explain", { ...about(), item: line.item_id });
    why.replaceChildren(...reasons(explanation));
  } catch (error) {
    why.textContent = error.message;
  }
}

function reasons(e) {
  const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2);
  const names = { llm: "words", encoder: "crowd" };
  const shares = Object.entries(e.shares).map(([k, v]) => `${names[k] || k} ${signed(v)}`).join(", ");
  const carried = e.reasons.filter((r) => r.drop > 0).slice(0, 3)
    .map((r) => make("li", { textContent: `${r.title} (without it ${Math.round(100 * r.probability_without)} %)` }));
  const near = e.nearest.filter((n) => n.cosine > 0).map((n) => n.title).join(", ");
  return [
    make("p", { textContent: `Against an average question: ${shares}` }),
    ...(carried.length ? [make("p", { textContent: "Carried by what you liked:" }), make("ul", {}, ...carried)] : []),
    ...(near ? [make("p", { textContent: `Nearest liked: ${near}` })] : []),
  ];
}

// The history ----------------------------------------------------------------------------------------

function judge(item, liked) {
  const button = make("button", { type: "button", textContent: liked ? "+" : "−" });
  button.setAttribute("aria-label", `${liked ? "Like" : "Dislike"} ${item.title}`);
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
    gone.setAttribute("aria-label", `Remove ${h.title}`);
    gone.onclick = () => { state.history.splice(place, 1); showHistory(); refreshSoon(); $("query").focus(); };
    const title = make("span", { className: `title ${h.liked ? "liked" : "disliked"}`, textContent: h.title });
    title.setAttribute("aria-label", `${h.liked ? "liked" : "disliked"}: ${h.title}`);
    return make("li", {}, title, gone);
  }));
}

const search = later(async () => {
  const query = $("query").value.trim();
  try {
    const got = query ? await call("GET", `/v1/items?limit=8&query=${encodeURIComponent(query)}`) : { items: [] };
    if (query !== $("query").value.trim()) return;
    const rows = got.items.map((item) => make("li", {}, make("span", { className: "title", textContent: item.title }), judge(item, true), judge(item, false)));
    if (query && !rows.length) rows.push(make("li", { className: "soft", textContent: "No title has all these words." }));
    $("found").replaceChildren(...rows);
  } catch (error) {
    say(error.message, true);
  }
}, PAUSE);

const suggestUsers = later(async () => {
  const got = await call("GET", `/v1/users?limit=8&query=${encodeURIComponent($("user").value)}`).catch(() => ({ users: [] }));
  $("users").replaceChildren(...got.users.map((u) => make("option", { value: u })));
}, PAUSE);

async function beUser(id) {
  try {
    const known = await call("GET", `/v1/users/${encodeURIComponent(id)}`);
    state.user = id;
    const liked = known.history.filter((h) => h.liked).slice(-3).map((h) => h.title).join(", ");
    $("about").textContent = `You are ${id}${known.known ? "" : ", who is new here"}${liked ? `; you last liked ${liked}` : ""}.`;
    showHistory();
    await refresh();
  } catch (error) {
    say(error.message, true);
  }
}

async function addItem(title) {
  const id = `new-${Date.now().toString(36)}`;
  try {
    await call("PUT", "/v1/items", { items: [{ item_id: id, title }] });
    state.added.add(id);
    $("landed").textContent = `“${title}” is in the catalogue.`;
    $("new-title").value = "";
    await refresh();
    const { scores } = await call("POST", "/v1/score", { ...about(), items: [id] });
    if (!$("landed").dataset.place) $("landed").textContent = `“${title}”: ${Math.round(100 * scores[0].probability)} %, behind the first hundred.`;
  } catch (error) {
    $("landed").textContent = error.message;
  }
}

function landed(lines) {
  const place = lines.findIndex((l) => state.added.has(l.item_id));
  $("landed").dataset.place = place < 0 ? "" : place + 1;
  if (place >= 0) $("landed").textContent = `“${lines[place].title}” lands on place ${place + 1} of ${lines.length}: ${Math.round(100 * lines[place].probability)} %.`;
}

// The doors ------------------------------------------------------------------------------------------

const submit = (id, work) => $(id).addEventListener("submit", (event) => { event.preventDefault(); work(); });
$("query").addEventListener("input", search);
$("user").addEventListener("input", suggestUsers);
submit("search-form", search);
submit("user-form", () => $("user").value.trim() && beUser($("user").value.trim()));
submit("new-form", () => $("new-title").value.trim() && addItem($("new-title").value.trim()));
submit("key-form", () => { state.key = $("key").value; $("key-form").hidden = true; start(); });
$("reset").onclick = () => { Object.assign(state, { history: [], user: null }); $("about").textContent = "A new start."; showHistory(); refresh(); };

async function start() {
  const ready = await call("GET", "/readyz").catch(() => null);
  if (ready) $("model").textContent = `Run ${ready.run}, model ${ready.model}.`;
  showHistory();
  await refresh();
}

start();
