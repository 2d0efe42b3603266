// The available settings, from GET /models, and the chosen ones.

import { ask } from "./server.js";
import { byId, bytes } from "./words.js";

const LABELS = { webp: "WebP" };
// Until /models has answered. quality: a lossy format; alpha: it can be transparent.
const FORMATS = [{ name: "png", alpha: true }];

export const menu = { models: [], formats: FORMATS, maxBytes: Infinity, codes: false };
const label = (name) => LABELS[name] || name.toUpperCase();

// Interpolations are listed apart: they are there for comparison.
function modelGroup(label, baselines) {
  const group = Object.assign(document.createElement("optgroup"), { label });
  const shown = menu.models.filter(({ baseline }) => baseline === baselines);
  group.append(...shown.map(({ name }) => new Option(name, name)));
  return group;
}

// What people have, with the network that `auto` takes for it where that is another than for clean photographs.
const WHAT = { spoiled: "Photograph", drawn: "Drawing or screenshot" };

function choices() {
  const takes = Object.fromEntries(menu.auto.takes.map(({ kind, model }) => [kind, model]));
  const own = Object.keys(WHAT).filter((kind) => takes[kind] !== takes.clean);
  return [new Option("Automatic", "auto"), ...own.map((kind) => new Option(WHAT[kind], takes[kind])), new Option("Exact", takes.clean)];
}

export async function loadMenu() {
  const answer = await (await ask("models")).json();
  Object.assign(menu, answer, { maxBytes: answer.input.max_bytes });
  const groups = [modelGroup("By name", false), modelGroup("Baselines", true)];
  byId("model").replaceChildren(...choices(), ...groups.filter((group) => group.children.length));
  byId("model").value = menu.default;
  byId("format").replaceChildren(...menu.formats.map(({ name }) => new Option(label(name), name)));
  byId("format").value = "png";
  byId("takes").textContent = `${answer.input.formats.map(label).join(", ")} up to ${bytes(menu.maxBytes)}`;
  return menu;
}

const format = () => menu.formats.find((each) => each.name === byId("format").value) || FORMATS[0];
const reads = () => menu.codes && byId("model").value === "qr";

export function parameters() {
  const chosen = { model: byId("model").value, format: byId("format").value };
  if (!byId("strength-field").hidden) chosen.strength = byId("strength").value;
  if (byId("by").value === "scale") chosen.scale = byId("scale").value;
  for (const side of ["width", "height"]) if (byId("by").value === "size" && byId(side).value) chosen[side] = byId(side).value;
  if (format().quality) chosen.quality = byId("quality").value;
  if (!format().alpha) chosen.background = byId("background").value.slice(1);
  if (!byId("keep").checked) chosen.metadata = "strip";
  if (reads() && byId("decode").checked) chosen.decode = "true";
  return chosen;
}

// What is wrong with the settings, and which field to focus.
export function wrongSetting() {
  const bySize = byId("by").value === "size";
  const fields = bySize ? ["width", "height"] : ["scale"];
  for (const id of format().quality ? [...fields, "quality"] : fields)
    if (!byId(id).checkValidity()) return [id, `${byId(id).labels[0].textContent}: ${byId(id).validationMessage}`];
  return bySize && !byId("width").value && !byId("height").value ? ["width", "Give a width or a height."] : null;
}

// Shows the fields that apply to the chosen settings.
export function showFields() {
  const model = [menu.auto, ...menu.models].find((each) => each?.name === byId("model").value);
  byId("model-hint").textContent = model?.summary || "";
  for (const field of document.querySelectorAll("[data-by]")) field.hidden = field.dataset.by !== byId("by").value;
  document.querySelector("[data-lossy]").hidden = !format().quality;
  document.querySelector("[data-flat]").hidden = format().alpha;
  document.querySelector("[data-codes]").hidden = !reads();
}
