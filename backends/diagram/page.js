"use strict";
const $ = (id) => document.getElementById(id);
const stage = $("stage"), panel = $("panel"), start = [...panel.childNodes];
const buttons = [...$("which").children];
let state = JSON.parse($("state").textContent);
let view = null;  // {x, y, k}: where the drawing lies on the stage, in pixels, and how large
let shown = 0;    // which of the drawings
let chosen = null;

// -- the drawing ------------------------------------------------------------------------------------------------------

const sheets = () => [...stage.querySelectorAll(".sheet")];
const picture = () => sheets()[shown]?.querySelector("svg");

function place() {
  if (!view) return;
  for (const sheet of sheets()) sheet.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.k})`;
  $("percent").textContent = `${Math.round(view.k * 100)} %`;
}

function fit() {
  const svg = picture();
  if (!svg) return;
  const { width, height } = svg.viewBox.baseVal, room = 24;
  const k = Math.min((stage.clientWidth - room) / width, (stage.clientHeight - room) / height, 1.5);
  view = { k, x: (stage.clientWidth - k * width) / 2, y: (stage.clientHeight - k * height) / 2 };
  place();
}

function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  if (!view) return;
  const k = Math.min(8, Math.max(0.1, view.k * factor)), by = k / view.k;
  view = { k, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
  place();
}

function move(dx, dy) {
  if (!view) return;
  view = { ...view, x: view.x + dx, y: view.y + dy };
  place();
}

function show(number) {
  const count = sheets().length;
  shown = Math.min(number, Math.max(0, count - 1));
  sheets().forEach((sheet, i) => { sheet.hidden = i !== shown; });
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === shown)));
  $("which").hidden = state.titles.length < 2;
}

buttons.forEach((button, i) => button.addEventListener("click", () => { show(i); fit(); }));
$("in").addEventListener("click", () => zoom(1.25));
$("out").addEventListener("click", () => zoom(0.8));
$("percent").addEventListener("click", () => view && zoom(1 / view.k));
$("fit").addEventListener("click", fit);
stage.addEventListener("wheel", (event) => {
  if (event.target.closest("#problems")) return;
  event.preventDefault();
  const box = stage.getBoundingClientRect(), lines = event.deltaMode === 1 ? 16 : 1;
  zoom(Math.exp(-event.deltaY * lines * 0.0015), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

let drag = null;  // the pointer that holds the drawing, where it is, and whether it has moved since
stage.addEventListener("pointerdown", (event) => {
  if (event.button === 0 && !event.target.closest("#problems")) {
    drag = { id: event.pointerId, x: event.clientX, y: event.clientY, moved: false };
  }
});
stage.addEventListener("pointermove", (event) => {
  if (drag?.id !== event.pointerId) return;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;  // a click of an unsteady hand
  if (!drag.moved) { stage.setPointerCapture(event.pointerId); stage.classList.add("moving"); }
  drag = { ...drag, x: event.clientX, y: event.clientY, moved: true };
  move(dx, dy);
});
for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => {
  if (drag?.id !== event.pointerId) return;
  if (kind === "pointerup" && !drag.moved) choose(event.target.closest("[data-key]")?.dataset.key ?? null);
  stage.classList.remove("moving");
  drag = null;
});
stage.addEventListener("keydown", (event) => {
  const key = event.target.dataset.key, step = 60;
  const keys = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": fit, "1": () => view && zoom(1 / view.k),
    ArrowLeft: () => move(step, 0), ArrowRight: () => move(-step, 0),
    ArrowUp: () => move(0, step), ArrowDown: () => move(0, -step),
    Escape: () => choose(null),
    ...(key && { Enter: () => choose(key), " ": () => choose(key) }),
  };
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === $("problems") || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});

// -- what is told about an agent or an edge -----------------------------------------------------------------------------

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function section({ title, rows, prompt }) {
  const body = prompt
    ? element("pre", "", ...prompt.map((part) => typeof part === "string" ? part : element("mark", `{${part[0]}}`)))
    : element("dl", "", ...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  return [element("h3", title), body];
}

function choose(key) {
  chosen = key in state.panels ? key : null;
  for (const node of stage.querySelectorAll("[data-key]")) {
    const key = node.dataset.key;  // in the other drawing every round of what was chosen in this one
    node.classList.toggle("chosen", key === chosen || key.replace(/#\d+/g, "") === chosen);
  }
  if (chosen === null) return panel.replaceChildren(...start);
  const { title, sections } = state.panels[chosen];
  panel.replaceChildren(element("h2", title), ...sections.flatMap(section));
}

// -- saving: always light, on white -----------------------------------------------------------------------------------

function standalone() {
  const copy = picture().cloneNode(true), make = (tag) => document.createElementNS(copy.namespaceURI, tag);
  const style = make("style"), paper = make("rect");
  style.textContent = state.light;
  for (const [name, value] of [["width", "100%"], ["height", "100%"], ["fill", "#ffffff"]]) paper.setAttribute(name, value);
  copy.prepend(style, paper);
  for (const node of copy.querySelectorAll(".chosen")) node.classList.remove("chosen");
  return new XMLSerializer().serializeToString(copy);
}

function save(blob, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${state.name}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const vector = () => new Blob([standalone()], { type: "image/svg+xml" });
$("svg").addEventListener("click", () => picture() && save(vector(), "svg"));
$("png").addEventListener("click", async () => {
  if (!picture()) return;
  const image = new Image(), { width, height } = picture().viewBox.baseVal;
  image.src = URL.createObjectURL(vector());
  await image.decode();
  const canvas = document.createElement("canvas"), scale = 2;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  canvas.toBlob((blob) => save(blob, "png"), "image/png");
});

// -- light and dark, and the live page ----------------------------------------------------------------------------------

$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

function update(news) {
  const focused = document.activeElement?.dataset?.key;
  state = { ...state, ...news };
  document.title = $("name").textContent = state.name;
  if (news.drawings) {
    for (const sheet of sheets()) sheet.remove();
    for (const svg of news.drawings) {
      const sheet = element("div");
      sheet.className = "sheet";
      sheet.innerHTML = svg;
      stage.insertBefore(sheet, $("problems"));
    }
    show(shown);
    if (view) place(); else fit();
  }
  $("problems").textContent = state.problems;
  $("problems").hidden = !state.problems;
  $("status").textContent = state.status;
  const top = panel.scrollTop;
  choose(chosen);
  panel.scrollTop = top;
  if (focused) stage.querySelector(`.sheet:not([hidden]) [data-key="${CSS.escape(focused)}"]`)?.focus();
}

show(0);
fit();
if (state.live) {
  const events = new EventSource("events");
  events.addEventListener("message", (event) => update(JSON.parse(event.data)));
  events.addEventListener("error", () => { $("status").textContent = "masc draw --watch has stopped"; });
}
