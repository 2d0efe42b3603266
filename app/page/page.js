// The page: a list of pictures, each enlarged in turn, shown while its rows arrive.

import { JpegDecoder } from "./jpeg.js";
import { PngDecoder, Unshowable } from "./png.js";
import { Preview } from "./preview.js";
import { ask, Broken, countDown, pieces, Refused } from "./server.js";
import { Viewer } from "./viewer.js";

const byId = (id) => document.getElementById(id);
const DECODERS = { "image/png": PngDecoder, "image/jpeg": JpegDecoder };
const EXTENSIONS = { jpeg: "jpg", tiff: "tif" };
const LABELS = { webp: "WebP" };
// Where /models does not tell. quality: of a lossy format; alpha: it can be transparent.
const FORMATS = [{ name: "png", alpha: true }, { name: "jpeg", alpha: false, quality: true }, { name: "webp", alpha: true, quality: true }];
const TRIES = 5; // how often a busy server is asked again
const BLOB_BYTES = 8e6; // received bytes are handed to the browser's blob store in such pieces

const viewer = new Viewer();
let models = [];
let formats = FORMATS;
let maxBytes = Infinity; // of a picture that is sent
let jobs = [];
let shown = null; // the job in the viewer
let working = false;
let estimating = new AbortController();
let waitingToEstimate = 0;

// -- settings ---------------------------------------------------------------------------------------------------

async function loadMenus() {
  const answer = await (await ask("models")).json();
  models = answer.models.filter((model) => Array.isArray(model.scales) && model.scales.length);
  const options = models.map((model) => new Option(model.title || model.name, model.name));
  byId("model").replaceChildren(...options);
  byId("model").value = answer.default;
  formats = answer.formats || FORMATS;
  maxBytes = answer.input?.max_bytes || Infinity;
  byId("format").replaceChildren(...formats.map(({ name }) => new Option(LABELS[name] || name.toUpperCase(), name)));
  byId("format").value = "png";
  settingsChanged();
}

const format = () => formats.find((each) => each.name === byId("format").value) || FORMATS[0];

function parameters() {
  const chosen = { model: byId("model").value, format: byId("format").value };
  if (byId("by").value === "scale") chosen.scale = byId("scale").value;
  for (const side of ["width", "height"]) if (byId("by").value === "size" && byId(side).value) chosen[side] = byId(side).value;
  if (format().quality) chosen.quality = byId("quality").value;
  if (!format().alpha) chosen.background = byId("background").value.slice(1);
  if (!byId("keep").checked) chosen.metadata = "strip";
  return chosen;
}

// What is wrong with the settings, in words, and which field to go to.
function wrongSetting() {
  const bySize = byId("by").value === "size";
  for (const id of bySize ? ["width", "height"] : ["scale"]) {
    if (!byId(id).checkValidity()) return [id, `${byId(id).labels[0].textContent}: ${byId(id).validationMessage}`];
  }
  if (bySize && !byId("width").value && !byId("height").value) return ["width", "Give a width or a height."];
  if (format().quality && !byId("quality").checkValidity()) return ["quality", `Quality: ${byId("quality").validationMessage}`];
  return null;
}

function settingsChanged() {
  const model = models.find((each) => each.name === byId("model").value);
  byId("model-hint").textContent = model?.summary || "";
  for (const field of document.querySelectorAll("[data-by]")) field.hidden = field.dataset.by !== byId("by").value;
  document.querySelector("[data-lossy]").hidden = !format().quality;
  document.querySelector("[data-flat]").hidden = format().alpha;
  byId("error").textContent = "";
  estimateSoon();
}

// -- the list -----------------------------------------------------------------------------------------------------

function add(files) {
  for (const file of files) {
    const element = byId("job").content.firstElementChild.cloneNode(true);
    const job = { file, element, url: URL.createObjectURL(file), state: "waiting" };
    part(job, "thumb").src = job.url;
    part(job, "thumb").onerror = () => part(job, "thumb").removeAttribute("src"); // TIFF, for one
    part(job, "name").textContent = file.name;
    element.querySelector("progress").setAttribute("aria-label", `Progress of ${file.name}`);
    for (const button of element.querySelectorAll("[data-act]")) {
      button.setAttribute("aria-label", `${button.textContent} ${file.name}`);
      if (ACTS[button.dataset.act]) button.addEventListener("click", () => ACTS[button.dataset.act](job));
    }
    byId("jobs").append(element);
    jobs.push(job);
    paint(job);
  }
  if (files.length) estimateSoon();
}

const ACTS = {
  show,
  cancel: (job) => job.controller?.abort(),
  again(job) {
    setState(job, "waiting");
    work();
  },
  remove(job) {
    job.controller?.abort();
    URL.revokeObjectURL(job.url);
    URL.revokeObjectURL(job.result);
    const next = job.element.nextElementSibling || job.element.previousElementSibling;
    job.element.remove();
    jobs = jobs.filter((each) => each !== job);
    if (shown === job) byId("viewer").hidden = true;
    (next?.querySelector("[data-act=remove]") || byId("files")).focus();
    paintAll();
  },
};

const part = (job, name) => job.element.querySelector(`.${name}`);
const act = (job, name) => job.element.querySelector(`[data-act=${name}]`);

function setState(job, state, words = "") {
  job.state = state;
  job.words = words;
  job.problem = "";
  paint(job);
}

function fail(job, message) {
  setState(job, "failed");
  job.problem = message;
  paint(job);
}

function paint(job) {
  const { state, estimate } = job;
  const size = job.size || estimate;
  part(job, "facts").textContent = size ? `${size.width} × ${size.height} px${job.blob ? `, ${bytes(job.blob.size)}` : ""}` : "";
  part(job, "state").textContent = job.words || (state === "waiting" && estimate ? `about ${duration(estimate.seconds)}` : "");
  const problem = job.problem || (state === "waiting" ? job.refused : "") || "";
  if (part(job, "problem").textContent !== problem) part(job, "problem").textContent = problem;
  job.element.querySelector("progress").hidden = state !== "running";
  act(job, "cancel").hidden = state !== "running";
  act(job, "again").hidden = !["failed", "cancelled"].includes(state);
  act(job, "download").hidden = state !== "done";
  act(job, "show").hidden = state !== "done" || shown === job;
  job.element.classList.toggle("shown", shown === job && !byId("viewer").hidden);
  job.element.dataset.state = state;
  paintAll();
}

function paintAll() {
  const waiting = jobs.filter((job) => job.state === "waiting");
  const known = waiting.filter((job) => job.estimate);
  const seconds = known.reduce((sum, job) => sum + job.estimate.seconds, known[0]?.estimate.queue_seconds || 0);
  byId("list").hidden = !jobs.length;
  document.body.classList.toggle("some", jobs.length > 0);
  byId("go").disabled = working || !jobs.length;
  byId("go").textContent = jobs.length && !waiting.length && !working ? "Enlarge again" : "Enlarge";
  byId("stop").hidden = !working;
  const all = known.length && known.length === waiting.length;
  byId("total").textContent = all ? `${count(waiting.length)}, about ${duration(seconds)}` : "";
}

const count = (number) => (number === 1 ? "1 picture" : `${number} pictures`);
const bytes = (number) => (number < 1e6 ? `${Math.ceil(number / 1e3)} kB` : `${(number / 1e6).toFixed(1)} MB`);

function duration(seconds) {
  if (seconds < 1) return "a second";
  return seconds < 100 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function say(words) {
  byId("said").textContent = words;
}

// -- estimates ----------------------------------------------------------------------------------------------------

function estimateSoon() {
  estimating.abort();
  clearTimeout(waitingToEstimate);
  for (const job of jobs) job.estimate = job.refused = null;
  jobs.forEach(paint);
  waitingToEstimate = setTimeout(estimateAll, 300);
}

async function estimateAll() {
  estimating = new AbortController();
  const { signal } = estimating;
  if (wrongSetting()) return;
  for (const job of jobs.filter((each) => each.state === "waiting")) {
    try {
      const answer = await ask("estimate", { method: "POST", body: body(job.file, parameters()), signal });
      job.estimate = await answer.json();
    } catch (error) {
      if (signal.aborted) return;
      if (!error.retryAfter) job.refused = error.message; // busy: it will be asked again when its turn comes
    }
    paint(job);
  }
}

function body(file, chosen) {
  const form = new FormData();
  for (const [name, value] of Object.entries(chosen)) form.set(name, value);
  form.set("image", file, file.name || "pasted.png");
  return form;
}

// -- the work -------------------------------------------------------------------------------------------------------

async function work() {
  const wrong = wrongSetting();
  byId("error").textContent = wrong ? wrong[1] : "";
  if (wrong) return byId(wrong[0]).focus();
  if (working) return;
  working = true;
  const chosen = parameters();
  for (let job; (job = jobs.find((each) => each.state === "waiting")); ) await enlarge(job, chosen);
  working = false;
  paintAll();
}

async function enlarge(job, chosen) {
  if (job.file.size > maxBytes) return fail(job, `The file has ${bytes(job.file.size)}; the server takes ${bytes(maxBytes)}.`);
  URL.revokeObjectURL(job.result);
  job.controller = new AbortController();
  job.size = job.blob = null;
  job.rows = job.quarter = 0;
  setState(job, "running", "Sending …");
  job.element.querySelector("progress").removeAttribute("value");
  say(`Enlarging ${job.file.name}`);
  try {
    const answer = await askPatiently(job, chosen);
    await receive(job, answer);
    finished(job);
  } catch (error) {
    if (job.controller.signal.aborted) {
      setState(job, "cancelled", "Cancelled.");
      say(`${job.file.name} cancelled`);
    } else if (error instanceof Broken) {
      fail(job, broken(job));
    } else {
      if (!(error instanceof Refused)) console.error(error);
      fail(job, error.message);
    }
    if (shown === job) byId("viewer").hidden = true;
    paint(job);
  }
}

function broken(job) {
  const arrived = job.rows ? ` after ${job.rows} of ${job.size.height} rows` : "";
  return `The transfer broke off${arrived}. The picture is not whole, so it was not kept. Please try again.`;
}

// A busy server says when to come back; so long the page counts down and asks again.
async function askPatiently(job, chosen) {
  const { signal } = job.controller;
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask("upscale", { method: "POST", body: body(job.file, chosen), signal });
    } catch (error) {
      if (!error.retryAfter || attempt === TRIES) throw error;
      say(`${job.file.name}: the server is busy`);
      await countDown(error.retryAfter, signal, (left) => {
        setState(job, "running", `The server is busy. Trying again in ${left} s …`);
      });
    }
  }
}

async function receive(job, answer) {
  const type = answer.headers.get("Content-Type");
  const [width, height] = (answer.headers.get("Enlarger-Output-Size") || "").split("x").map(Number);
  if (width && height) job.size = { width, height };
  job.seconds = Number(answer.headers.get("Enlarger-Estimated-Seconds"));
  job.started = performance.now();
  job.preview = null;
  let decoder = type in DECODERS ? new DECODERS[type]((header) => begin(job, header), (...rows) => draw(job, ...rows)) : null;
  let blob = new Blob([], { type });
  let parts = [], held = 0;
  let received = 0;
  setState(job, "running", `Computing, about ${duration(job.seconds)} …`);
  for await (const piece of pieces(answer)) {
    received += piece.length;
    parts.push(piece);
    held += piece.length;
    if (held > BLOB_BYTES) [blob, parts, held] = [new Blob([blob, ...parts], { type }), [], 0];
    decoder = await pushed(decoder, piece);
    if (!decoder) progress(job, received);
  }
  await decoder?.finish().catch((error) => {
    throw new Broken(error.message);
  });
  job.blob = new Blob([blob, ...parts], { type });
  await drawWhole(job);
}

async function pushed(decoder, piece) {
  try {
    await decoder?.push(piece);
    return decoder;
  } catch (error) {
    if (error instanceof Unshowable) return null;
    throw new Broken(error.message);
  }
}

function begin(job, header) {
  job.size = { width: header.width, height: header.height };
  job.recolour = header.profile; // rows were drawn without the profile, or the last of them were not drawn
  job.preview = new Preview(header);
  show(job);
}

function draw(job, top, pixels, rows) {
  if (pixels instanceof ImageBitmap) job.preview.bitmap(top, pixels);
  else job.preview.rows(top, pixels, rows);
  job.rows = top + rows;
  progress(job);
}

// At most once a frame: rows come by the thousand.
function progress(job, received = 0) {
  if (job.painting) return;
  job.painting = true;
  requestAnimationFrame(() => {
    job.painting = false;
    if (job.state !== "running") return;
    const bar = job.element.querySelector("progress");
    if (job.preview) {
      const done = job.rows / job.size.height;
      const left = ((performance.now() - job.started) / 1000) * (1 / done - 1);
      bar.value = done;
      part(job, "state").textContent =
        `${job.rows} of ${job.size.height} rows${done > 0.1 && left > 1 ? `, about ${duration(left)} left` : ""}`;
      if (shown === job) viewer.drawn(job.rows);
      if (Math.floor(done * 4) > job.quarter) say(`${job.file.name}: ${(job.quarter = Math.floor(done * 4)) * 25} percent`);
    } else {
      part(job, "state").textContent = `${bytes(received)} received; it appears when it is finished`;
    }
  });
}

// Formats that cannot be shown in part, colour profiles and what a part left out: the finished file, drawn once more.
async function drawWhole(job) {
  const early = job.preview;
  try {
    if (!early) {
      const bitmap = job.size || (await createImageBitmap(job.blob));
      job.size = { width: bitmap.width, height: bitmap.height };
      job.preview = new Preview({ ...job.size, alpha: true });
    }
    if (!early || job.recolour) await job.preview.whole(job.blob);
  } catch {
    if (!early) job.preview = null; // TIFF, for one: nothing a browser shows
  }
  job.controller.signal.throwIfAborted();
}

function finished(job) {
  job.rows = job.size.height;
  job.result = URL.createObjectURL(job.blob);
  const link = act(job, "download");
  const extension = job.blob.type.replace("image/", "");
  link.href = job.result;
  link.download = `${job.file.name.replace(/\.[^.]*$/, "") || "picture"}-${job.size.width}x${job.size.height}.${EXTENSIONS[extension] || extension}`;
  const took = (performance.now() - job.started) / 1000;
  setState(job, "done", job.preview ? `Done in ${duration(took)}.` : `Done in ${duration(took)}. A browser cannot show this format.`);
  say(`${job.file.name} is done`);
  if (shown === job) viewer.drawn(job.rows);
  else if (job.preview && jobs.filter((each) => each.state === "done").length === 1) show(job);
  else drop(job);
}

// -- the viewer -------------------------------------------------------------------------------------------------------

// Only the picture in the viewer keeps its canvas; another is drawn again from its file.
function drop(job) {
  if (job.state === "done") job.preview = job.preview && { dropped: true, ...job.size, alpha: job.preview.alpha };
}

async function show(job) {
  const last = shown;
  if (job.preview?.dropped) {
    job.preview = new Preview(job.preview);
    await job.preview.whole(job.blob);
  }
  if (!job.preview) return;
  shown = job;
  if (last && last !== job) drop(last);
  byId("viewer").hidden = false;
  byId("viewer-title").textContent = job.file.name;
  byId("reduced").hidden = job.preview.step === 1;
  byId("reduced").textContent = `Shown at 1/${job.preview.step} of its pixels, because it is too large for a browser's canvas; the download has them all.`;
  viewer.show(job.url, job.preview, job.rows);
  for (const each of [last, job]) if (each && jobs.includes(each)) paint(each);
}

// -- events -----------------------------------------------------------------------------------------------------------

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!jobs.some((job) => job.state === "waiting")) for (const job of jobs) setState(job, "waiting");
  work();
});
byId("stop").addEventListener("click", () => {
  for (const job of jobs.filter((each) => each.state === "waiting")) setState(job, "cancelled", "Cancelled.");
  for (const job of jobs) job.controller?.abort();
});
byId("settings").addEventListener("input", settingsChanged);
byId("files").addEventListener("change", () => {
  add([...byId("files").files]);
  byId("files").value = "";
});
document.addEventListener("paste", (event) => add([...event.clipboardData.files]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") add([...event.dataTransfer.files]);
  });
}
loadMenus().catch((error) => (byId("error").textContent = error.message));
