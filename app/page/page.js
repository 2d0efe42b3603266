// The page: a list of pictures, enlarged one after another, each shown while its rows arrive.

import { addExtras, codesRead } from "./extras.js";
import { choiceTold, Job } from "./job.js";
import { Preview } from "./preview.js";
import { receive } from "./receive.js";
import { ask, Broken, countDown, Refused } from "./server.js";
import { loadMenu, menu, parameters, showFields, wrongSetting } from "./settings.js";
import { Viewer } from "./viewer.js";
import { byId, bytes, count, duration, say } from "./words.js";

const TRIES = 5; // how often a busy server is asked again

const viewer = new Viewer();
let jobs = [];
let shown = null; // the job in the viewer
let strength = null; // its slider, if a network has one
let working = false;
let estimating = new AbortController();
let waitingToEstimate = 0;
const inState = (state) => jobs.filter((job) => job.state === state);

// -- the list

const ACTS = {
  show,
  cancel: (job) => job.controller?.abort(),
  again(job) {
    job.set("waiting");
    work();
  },
  remove(job) {
    const next = job.element.nextElementSibling || job.element.previousElementSibling;
    job.letGo();
    jobs = jobs.filter((each) => each !== job);
    if (shown === job) showNone();
    (next?.querySelector("[data-act=remove]") || byId("files")).focus();
    paint();
  },
};

function add(files) {
  for (const file of files) {
    const job = new Job(file, ACTS);
    byId("jobs").append(job.element);
    jobs.push(job);
  }
  paint();
  if (files.length) estimateSoon();
}

function paint() {
  const waiting = inState("waiting");
  const known = waiting.filter((job) => job.estimate);
  const seconds = known.reduce((sum, job) => sum + job.estimate.seconds, known[0]?.estimate.queue_seconds || 0);
  const all = known.length && known.length === waiting.length;
  byId("list").hidden = !jobs.length;
  document.body.classList.toggle("some", jobs.length > 0);
  byId("go").disabled = working || !jobs.length;
  byId("go").textContent = jobs.length && !waiting.length && !working ? "Enlarge again" : "Enlarge";
  byId("stop").hidden = !working;
  byId("total").textContent = all ? `${count(waiting.length)}, about ${duration(seconds)}` : "";
}

function setState(job, ...state) {
  job.set(...state);
  paint();
}

// -- estimates

function estimateSoon() {
  estimating.abort();
  clearTimeout(waitingToEstimate);
  for (const job of jobs) {
    job.estimate = job.refused = null;
    job.paint();
  }
  paint();
  waitingToEstimate = setTimeout(estimateAll, 300);
}

async function estimateAll() {
  estimating = new AbortController();
  const { signal } = estimating;
  if (wrongSetting()) return;
  for (const job of inState("waiting")) {
    try {
      const answer = await ask("estimate", { method: "POST", body: body(job.file, parameters()), signal });
      job.estimate = await answer.json();
      if (!shown && !working && !job.unseen) showAlone(job);
    } catch (error) {
      if (signal.aborted) return;
      if (!error.retryAfter) job.refused = error.message; // busy: asked again when its turn comes
    }
    job.paint();
    paint();
  }
}

function body(file, chosen) {
  const form = new FormData();
  for (const [name, value] of Object.entries(chosen)) form.set(name, value);
  form.set("image", file, file.name || "pasted.png");
  return form;
}

// -- the work

async function work() {
  const wrong = wrongSetting();
  byId("error").textContent = wrong ? wrong[1] : "";
  if (wrong) return byId(wrong[0]).focus();
  if (working) return;
  working = true;
  const chosen = parameters();
  for (let job; (job = inState("waiting")[0]); ) await enlarge(job, chosen);
  working = false;
  paint();
}

async function enlarge(job, chosen) {
  const { name, size } = job.file;
  if (size > menu.maxBytes) return setState(job, "failed", "", `The file has ${bytes(size)}; the server accepts at most ${bytes(menu.maxBytes)}.`);
  job.begin();
  paint();
  say(`Enlarging ${name}`);
  let quarter = 0;
  try {
    const answer = await askPatiently(job, chosen);
    job.codes = codesRead(answer.headers);
    job.choice = choiceTold(answer.headers);
    await receive(job, answer, show, (_, share) => {
      if (shown === job) viewer.drawn(job.rows);
      if (Math.floor(share * 4) > quarter) say(`${name}: ${(quarter = Math.floor(share * 4)) * 25} percent`);
    });
    finished(job);
  } catch (error) {
    if (job.controller.signal.aborted) {
      setState(job, "cancelled", "Cancelled.");
      say(`${name} cancelled`);
    } else {
      if (!(error instanceof Refused || error instanceof Broken)) console.error(error);
      setState(job, "failed", "", error instanceof Broken ? broken(job) : error.message);
    }
    if (shown === job) showNone();
  }
}

function broken(job) {
  const arrived = job.rows ? ` after ${job.rows} of ${job.size.height} rows` : "";
  return `The connection was aborted${arrived}. The image is incomplete and was not kept. Please try again.`;
}

// A busy server says when to retry; the page counts down and asks again.
async function askPatiently(job, chosen) {
  const { signal } = job.controller;
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask("upscale", { method: "POST", body: body(job.file, chosen), signal });
    } catch (error) {
      if (!error.retryAfter || attempt === TRIES) throw error;
      say(`${job.file.name}: the server is busy`);
      await countDown(error.retryAfter, signal, (left) => job.say(`The server is busy. Trying again in ${left} s …`));
    }
  }
}

function finished(job) {
  job.finish();
  paint();
  say(`${job.file.name} is done. ${job.codes}`);
  if (viewer.size === job.preview) viewer.drawn(job.rows);
  else if (job.preview && (shown === job || inState("done").length === 1)) show(job);
  else drop(job);
}

// -- the viewer

// Only the picture in the viewer keeps its canvas; others are redrawn from their files.
function drop(job) {
  if (job.state === "done") job.preview = job.preview && { dropped: true, ...job.size, alpha: job.preview.alpha };
}

async function show(job) {
  if (job.preview?.dropped) {
    job.preview = new Preview(job.preview);
    await job.preview.whole(job.blob);
  }
  if (!job.preview || !jobs.includes(job)) return;
  bring(job);
  byId("reduced").hidden = job.preview.step === 1;
  byId("reduced").textContent = `Shown at 1/${job.preview.step} of its pixels, because it is too large for a browser's canvas; the download has them all.`;
  viewer.show(job.url, job.preview, job.rows);
}

// A picture that has not been enlarged yet, at its future size.
function showAlone(job) {
  bring(job);
  byId("reduced").hidden = true;
  viewer.show(job.url, { width: job.estimate.width, height: job.estimate.height, alpha: false }, 0);
}

function bring(job) {
  const last = shown;
  showNone();
  if (last && last !== job) drop(last);
  shown = job;
  job.shown = true;
  job.paint();
  strength?.show(job.url);
  byId("viewer").hidden = false;
  byId("viewer-title").textContent = job.file.name;
  compare();
}

async function compare() {
  if (byId("compare").open && shown) (await import("./compare.js")).compare(shown);
}

function showNone() {
  if (shown) shown.shown = false;
  shown?.paint();
  shown = null;
  strength?.hide();
  byId("viewer").hidden = true;
}

// -- events

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!inState("waiting").length) for (const job of jobs) job.set("waiting");
  work();
});
byId("stop").addEventListener("click", () => {
  for (const job of inState("waiting")) setState(job, "cancelled", "Cancelled.");
  for (const job of jobs) job.controller?.abort();
});
byId("settings").addEventListener("input", settingsChanged);
byId("compare").addEventListener("toggle", compare);
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

function settingsChanged() {
  showFields();
  byId("error").textContent = "";
  estimateSoon();
}

// The waiting pictures, to be submitted as jobs.
function takeWaiting() {
  const wrong = wrongSetting();
  byId("error").textContent = wrong ? wrong[1] : jobs.length ? "" : "Choose pictures first.";
  if (wrong) return [];
  return inState("waiting").map((job) => {
    const form = body(job.file, parameters());
    ACTS.remove(job);
    return [job.file.name, form];
  });
}

async function start() {
  await loadMenu();
  if (menu.models.some((model) => model.strength)) strength = new (await import("./strength.js")).Strength();
  if (shown) strength?.show(shown.url); // chosen before this had arrived
  settingsChanged();
  addExtras(menu);
  if (menu.jobs) await (await import("./jobs.js")).addJobs(takeWaiting);
}

start().catch((error) => (byId("error").textContent = error.message));
