// Two models side by side on a detail of a picture, before the whole of it is enlarged. Loaded once it is opened.

import { ask } from "./server.js";
import { menu, parameters } from "./settings.js";
import { byId, say } from "./words.js";

const SIDE = 128; // pixels of the detail at most
const STEP = 8; // of an arrow key, in screen pixels
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const SIDES = ["left", "right"];
let job = null;
let bitmap = null; // of the whole picture, as the browser decodes it
let point = { x: 0, y: 0 }; // the middle of the detail, in pixels of the picture
let running = new AbortController();

const part = (name) => byId(`compare-${name}`);

const PARTS = `
<p class="hint" id="compare-hint">Click on the detail, or move the frame with the arrow keys. A detail takes a second or two.</p>
<div id="compare-where" tabindex="0" role="group" aria-label="The detail to compare" aria-describedby="compare-hint"><img id="compare-image" alt="The whole picture"><span id="compare-frame"></span></div>
<div class="fields">
<div class="field"><label for="compare-left">Left</label><select id="compare-left"></select></div>
<div class="field"><label for="compare-right">Right</label><select id="compare-right"></select></div>
<button type="button" id="compare-go">Compare</button>
</div>
<p class="problem" id="compare-problem" role="alert"></p>
<div id="compare-results" hidden>
<figure><img id="compare-left-image" alt=""><figcaption id="compare-left-name"></figcaption><button type="button" id="compare-left-take" aria-describedby="compare-left-name">Take this one</button></figure>
<figure><img id="compare-right-image" alt=""><figcaption id="compare-right-name"></figcaption><button type="button" id="compare-right-take" aria-describedby="compare-right-name">Take this one</button></figure>
</div>
`;
byId("compare").insertAdjacentHTML("beforeend", PARTS);
document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "page/compare.css" }));

// Shows a picture to choose a detail in; called whenever another one is in the viewer.
export async function compare(shown) {
  if (shown === job) return offer();
  running.abort();
  job = shown;
  part("problem").textContent = "";
  part("results").hidden = true;
  bitmap?.close();
  bitmap = null;
  part("image").src = job.url;
  const decoded = await createImageBitmap(job.file).catch(() => null);
  if (shown !== job) return decoded?.close();
  bitmap = decoded;
  part("go").disabled = part("where").hidden = !bitmap;
  if (!bitmap) return void (part("problem").textContent = "This browser cannot show the picture, so no detail can be chosen in it.");
  point = { x: bitmap.width / 2, y: bitmap.height / 2 };
  offer();
  frame();
}

// The same choices as in the settings; at first what is set there, and what else fits best.
function offer() {
  for (const side of SIDES) {
    const chosen = part(side).value;
    part(side).replaceChildren(...[...byId("model").children].map((each) => each.cloneNode(true)));
    part(side).value = chosen;
  }
  if (!part("left").value) part("left").value = byId("model").value;
  if (!part("right").value) part("right").value = other(model(part("left").value));
}

const other = (taken) => [...menu.auto.takes.map((each) => each.model).reverse(), ...menu.models.map(({ name }) => name)].find((name) => name !== taken) || taken;

// A detail is another file than the whole, so for `auto` it is what the whole picture gets.
const model = (value) => (value === "auto" && job.estimate?.choice ? job.estimate.choice.model : value);

function box() {
  const width = Math.min(SIDE, bitmap.width);
  const height = Math.min(SIDE, bitmap.height);
  const at = (middle, length, whole) => Math.round(Math.min(whole - length, Math.max(0, middle - length / 2)));
  return { x: at(point.x, width, bitmap.width), y: at(point.y, height, bitmap.height), width, height };
}

function frame() {
  const { x, y, width, height } = box();
  const percent = (value, whole) => `${(100 * value) / whole}%`;
  Object.assign(part("frame").style, {
    left: percent(x, bitmap.width),
    top: percent(y, bitmap.height),
    width: percent(width, bitmap.width),
    height: percent(height, bitmap.height),
  });
}

function moveTo(x, y) {
  const held = (value, whole) => Math.min(whole, Math.max(0, value));
  point = { x: held(x, bitmap.width), y: held(y, bitmap.height) };
  frame();
}

part("where").addEventListener("click", (event) => {
  const area = part("image").getBoundingClientRect();
  moveTo(((event.clientX - area.left) / area.width) * bitmap.width, ((event.clientY - area.top) / area.height) * bitmap.height);
});
part("where").addEventListener("keydown", (event) => {
  if (!ARROWS[event.key]) return;
  event.preventDefault();
  const perPixel = bitmap.width / part("image").clientWidth;
  moveTo(point.x + ARROWS[event.key][0] * perPixel, point.y + ARROWS[event.key][1] * perPixel);
});

async function detail() {
  const { x, y, width, height } = box();
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(bitmap, -x, -y);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

const factor = () => {
  const chosen = parameters();
  return chosen.scale || Math.min(8, Math.max(1, job.estimate ? job.estimate.width / bitmap.width : 4));
};

async function run() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  part("problem").textContent = "";
  part("go").disabled = true;
  try {
    const body = await detail();
    const scale = factor();
    for (const side of SIDES) {
      const name = model(part(side).value);
      const answer = await ask(`upscale?${new URLSearchParams({ model: name, scale, format: "png" })}`, { method: "POST", body, signal });
      await show(side, await answer.blob(), answer.headers.get("Enlarger-Model"));
    }
    part("results").hidden = false;
    part("results").scrollIntoView({ block: "nearest" });
    say(`Compared: ${SIDES.map((side) => part(`${side}-name`).textContent).join(" and ")}`);
  } catch (error) {
    if (!signal.aborted) part("problem").textContent = error.message;
  }
  part("go").disabled = !bitmap;
}

async function show(side, blob, networks) {
  const image = part(`${side}-image`);
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  await image.decode();
  image.alt = `The detail, enlarged by ${networks}`;
  const label = part(side).selectedOptions[0].textContent;
  part(`${side}-name`).textContent = label === networks.replace(/-x\d+.*/, "") ? networks : `${label} (${networks})`;
}

part("go").addEventListener("click", run);
for (const side of SIDES)
  part(`${side}-take`).addEventListener("click", () => {
    byId("model").value = part(side).value;
    byId("model").dispatchEvent(new Event("input", { bubbles: true }));
    byId("model").focus();
  });
