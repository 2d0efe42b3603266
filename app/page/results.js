// Mean opinion scores as tables.

import { ask } from "./server.js";

const byId = (id) => document.getElementById(id);
const score = (one) => (one ? `${one.mean.toFixed(2)}${one.half_width === null ? "" : ` ± ${one.half_width.toFixed(2)}`}` : "–");

function row(cells, tag = "td") {
  const line = document.createElement("tr");
  line.append(...cells.map((text) => Object.assign(document.createElement(tag), { textContent: text })));
  if (tag === "th") for (const cell of line.children) cell.scope = "col";
  return line;
}

function table(id, caption, heads, lines) {
  const top = Object.assign(document.createElement("caption"), { textContent: caption });
  byId(id).replaceChildren(top, row(heads, "th"), ...lines.map((line) => row(line)));
}

async function load() {
  const found = await (await ask("results", { headers: { Accept: "application/json" } })).json();
  byId("summary").textContent = `${found.ratings} ratings by ${found.observers} people, pictures enlarged ×${found.scale}.`;
  const names = found.models.map((each) => each.model);
  const caption = `Mean opinion score, 1 to 5; ± is the confidence interval (${found.interval}).`;
  table("models", caption, ["Model", "Score", "People", "Ratings"], found.models.map((each) => [each.model, score(each), each.observers, each.ratings]));
  table("pictures", "Mean opinion score and number of ratings, by picture.", ["Picture", ...names], found.pictures.map(
    ({ picture, models }) => [picture, ...names.map((name) => `${score(models[name])}${models[name] ? ` (${models[name].ratings})` : ""}`)]));
}

load().catch((error) => (byId("error").textContent = error.message));
