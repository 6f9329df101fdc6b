// What a person wishes of the lists: what not to see, what more or less of, how mixed.
import { $, IN_SENTENCE, PAUSE, later, make, named, short } from "./parts.js";

// Args: call asks the API, say tells the person, refresh asks for the lists anew.
export function wishes(call, say, refresh) {
  let excluded = [], boosts = [];

  // What is not to be seen holds for both lists; an order of one's own only for the one that has a score.
  function without() {
    return { exclude: excluded.map((x) => x.item_id) };
  }

  function ordered() {
    const boost = {};
    for (const { attribute, value, factor } of boosts) (boost[attribute] ??= {})[value] = factor;
    return { boost, diversity: Number($("diversity").value) };
  }

  function never(item) {
    const button = make("button", { type: "button", textContent: "×", title: "Do not show this" });
    button.dataset.does = "never";
    button.setAttribute("aria-label", `Do not show ${short(item.title)}`);
    button.onclick = () => { excluded.push({ item_id: item.item_id, title: item.title }); show(); refresh(); };
    return button;
  }

  function show() {
    const times = (factor) => [...$("factor").options].find((o) => Number(o.value) === factor)?.text ?? `${factor} times`;
    $("boosts").replaceChildren(...boosts.map((b, place) =>
      row(make("span", { className: "title" }, named(`${b.attribute}: ${b.value}`), `, ${times(b.factor)}`), `${b.attribute}: ${b.value}`, boosts, place, "boost")));
    $("excluded").replaceChildren(...excluded.map((x, place) =>
      row(make("span", { className: "title" }, "not ", named(x.title)), x.title, excluded, place, "query")));
    $("mix").textContent = `${Math.round(100 * $("diversity").value)} %`;
  }

  function row(said, name, list, place, then) {
    const gone = make("button", { type: "button", textContent: "×" });
    gone.setAttribute("aria-label", `Take back ${short(name)}`);
    gone.onclick = () => { list.splice(place, 1); show(); refresh(); $(then).focus(); };
    return make("li", {}, said, gone);
  }

  // What the catalogue has: the very value that was typed, or the only one that fits.
  async function addBoost(typed) {
    try {
      const got = await call("GET", `v1/attributes?limit=100&query=${encodeURIComponent(typed)}`);
      const found = got.values.find((v) => `${v.attribute}=${v.value}` === typed) ?? (got.total === 1 ? got.values[0] : null);
      if (!found) return say(got.total ? `${got.total} values fit “${short(typed, IN_SENTENCE)}”: choose one of those that are suggested.` : `No item has “${short(typed, IN_SENTENCE)}”.`, true);
      boosts = boosts.filter((b) => b.attribute !== found.attribute || b.value !== found.value);
      boosts.push({ attribute: found.attribute, value: found.value, factor: Number($("factor").value) });
      $("boost").value = "";
      show();
      refresh();
    } catch (error) {
      say(error.message, true);
    }
  }

  const suggestValues = later(async () => {
    const got = await call("GET", `v1/attributes?limit=8&query=${encodeURIComponent($("boost").value)}`).catch(() => ({ values: [] }));
    $("values").replaceChildren(...got.values.map((v) => make("option", { value: `${v.attribute}=${v.value}` })));
  }, PAUSE);

  function forget() {
    excluded = [];
    boosts = [];
    $("diversity").value = 0;
    show();
  }

  $("boost-form").addEventListener("submit", (event) => { event.preventDefault(); if ($("boost").value.trim()) addBoost($("boost").value.trim()); });
  $("boost").addEventListener("input", suggestValues);
  $("diversity").addEventListener("input", () => { show(); refresh(); });
  show();
  return { without, ordered, never, forget };
}
