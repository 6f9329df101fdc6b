// What every part of the page is made of.  What comes from data enters by textContent only.
export const PAUSE = 180, LONGEST = 256, IN_SENTENCE = 60;
export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((c) => c !== null));
  return node;
}

// What data says stands in a <bdi>, so that no direction mark in it reaches the words around it, and
// cut, for an older run does not bound it: a title in a line of its own, a name within a sentence.
export function titled(text) {
  return make("bdi", { className: "title", textContent: short(text, LONGEST) });
}

export function named(text) {
  return make("bdi", { textContent: short(text, IN_SENTENCE) });
}

export function short(text, longest = LONGEST) {
  const letters = [...text];
  return letters.length > longest ? `${letters.slice(0, longest - 1).join("")}…` : text;
}

export function later(work, pause) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(work, pause); };
}
