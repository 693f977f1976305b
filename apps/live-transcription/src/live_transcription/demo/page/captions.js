// SPDX-License-Identifier: AGPL-3.0-or-later
// Draws the blocks that the server sends and announces finals to screen readers.
"use strict";

const SIZES = [75, 100, 125, 150, 200];
const SPEAKING_MS = 1500;
const KEPT_LOG = 50;
const COLOURS = 6;

const byId = (id) => document.getElementById(id);
const box = byId("box");
const blocks = byId("blocks");
const log = byId("log");

let run = null;
let announced = new Set();
const drawn = new Map(); // block id -> element
const tiles = new Map(); // display name -> { element, timer }

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function avatar(name, person) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const ends = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  const initials = ends.map((word) => [...word][0].toUpperCase()).join("");
  const circle = make("span", `avatar p${person % COLOURS}`);
  circle.setAttribute("aria-hidden", "true");
  circle.append(make("span", "", initials || "?"));
  return circle;
}

// -- people ------------------------------------------------------------------

function addTile(name, person) {
  if (tiles.has(name) || person >= 64) return;
  const element = make("li", "tile");
  element.append(avatar(name, person), make("span", "name", name));
  byId("people").append(element);
  tiles.set(name, { element, timer: 0 });
}

function markSpeaking(name) {
  const tile = tiles.get(name);
  if (!tile) return;
  clearTimeout(tile.timer);
  tile.element.classList.add("speaking");
  tile.timer = setTimeout(() => tile.element.classList.remove("speaking"), SPEAKING_MS);
}

// -- captions ------------------------------------------------------------------

function drawBlock(block) {
  let element = drawn.get(block.id);
  if (!element) {
    element = make("div", "block");
    const who = make("div", "who");
    const name = make("span", `name n${block.person % COLOURS}`, block.speaker);
    who.append(avatar(block.speaker, block.person), name);
    element.append(who, make("div", "text"));
    drawn.set(block.id, element);
    blocks.append(element);
  }
  const text = element.lastElementChild;
  text.replaceChildren();
  for (const chunk of block.chunks) {
    const span = make("span", chunk.final ? "final" : "partial", chunk.text);
    span.lang = chunk.lang;
    if (text.hasChildNodes()) text.append(" ");
    text.append(span);
  }
  box.classList.add("filled");
}

function toEnd() {
  const top = blocks.scrollHeight - blocks.clientHeight;
  for (const element of drawn.values()) {
    // Where one line of a block is left in sight, the line matters more than the name.
    const left = element.offsetTop + element.offsetHeight - top;
    const line = element.firstElementChild.offsetHeight;
    element.classList.toggle("leaving", left < 1.5 * line);
  }
  blocks.scrollTop = top;
}

function announce(block) {
  for (const chunk of block.chunks) {
    if (!chunk.final || announced.has(chunk.id)) continue;
    announced.add(chunk.id);
    const line = make("p", "");
    const words = make("span", "", chunk.text);
    words.lang = chunk.lang;
    line.append(`${block.speaker}: `, words);
    log.append(line);
    while (log.childElementCount > KEPT_LOG) log.firstElementChild.remove();
  }
}

function dropOld(kept) {
  for (const [id, element] of drawn) {
    if (drawn.size <= kept) break;
    element.remove();
    drawn.delete(id);
  }
}

// -- events from the server ------------------------------------------------------

function onState(state) {
  if (run !== state.run) {
    run = state.run;
    announced = new Set();
    log.replaceChildren();
    for (const tile of tiles.values()) tile.element.remove();
    tiles.clear();
  }
  byId("status").textContent = state.status;
  state.people.forEach(addTile);
  blocks.replaceChildren();
  drawn.clear();
  box.classList.remove("filled");
  for (const block of state.blocks) {
    drawBlock(block);
    announce(block);
  }
  toEnd();
}

function onBlock(block) {
  addTile(block.speaker, block.person);
  markSpeaking(block.speaker);
  drawBlock(block);
  announce(block);
  dropOld(6);
  toEnd();
}

function connection(state, text) {
  byId("connection").dataset.state = state;
  byId("connection").textContent = text;
}

function connect() {
  const source = new EventSource("events");
  const on = (kind, handle) =>
    source.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  on("state", onState);
  on("block", onBlock);
  on("status", (status) => { byId("status").textContent = status.text; });
  on("bye", () => {
    source.close();
    connection("ended", "The demo has ended");
  });
  source.addEventListener("open", () => connection("live", "Live"));
  source.addEventListener("error", () => {
    connection("lost", "Connection lost, trying again …");
    // The browser itself tries again, unless the server refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

// -- text size ---------------------------------------------------------------------

function remembered() {
  try {
    return SIZES.indexOf(Number(localStorage.getItem("caption-size")));
  } catch {
    return -1; // storage is switched off
  }
}

let size = remembered();
if (size < 0) size = SIZES.indexOf(100);

function showSize() {
  document.documentElement.style.setProperty("--scale", String(SIZES[size] / 100));
  byId("size-now").textContent = `${SIZES[size]} %`;
  byId("smaller").disabled = size === 0;
  byId("larger").disabled = size === SIZES.length - 1;
  toEnd();
}

function resize(step) {
  size = Math.min(SIZES.length - 1, Math.max(0, size + step));
  try {
    localStorage.setItem("caption-size", String(SIZES[size]));
  } catch {
    // Then it lasts until the page is closed.
  }
  showSize();
}

byId("smaller").addEventListener("click", () => resize(-1));
byId("larger").addEventListener("click", () => resize(1));
window.addEventListener("resize", toEnd);
showSize();
connect();
