// The study: one picture after another, rated 1 to 5, each rating saved at once. A reload continues where it was.

import { ask } from "./server.js";

const byId = (id) => document.getElementById(id);
const KEEP = "enlarger-study"; // the participant's id, so that a reload does not count as a second participant
let session = null;
let at = 0;
let saving = false;

const urlOf = (trial) => `study/participants/${session.participant}/${trial.id}`;
const firstOpen = () => session.trials.findIndex((trial) => !trial.score);

async function open() {
  const known = localStorage.getItem(KEEP);
  if (!known) return;
  session = await (await ask(`study/participants/${known}`)).json();
  const rated = session.trials.filter((trial) => trial.score).length;
  byId("begin").textContent = rated ? "Continue" : "Begin";
  byId("begun").textContent = rated ? `${rated} of ${session.trials.length} rated so far.` : "";
}

async function begin() {
  if (!session) session = await (await ask("study/participants", { method: "POST" })).json();
  localStorage.setItem(KEEP, session.participant);
  byId("scores").append(...session.words.map(choice));
  byId("start").hidden = true;
  at = firstOpen();
  at < 0 ? end() : show();
}

function choice(word, index) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "score", value: index + 1 });
  const text = Object.assign(document.createElement("span"), { textContent: `${index + 1} ${word}` });
  // A click rates at once; arrow keys only choose, so that they do not rate by accident.
  text.addEventListener("click", () => rate(index + 1));
  label.append(input, text);
  return label;
}

function show() {
  const trial = session.trials[at];
  const { length } = session.trials;
  byId("trial").hidden = false;
  byId("end").hidden = true;
  load(trial);
  byId("position").textContent = `Picture ${at + 1} of ${length}`;
  byId("progress").value = session.trials.filter((each) => each.score).length / length;
  for (const input of document.querySelectorAll("[name=score]")) input.checked = Number(input.value) === trial.score;
  byId("back").disabled = at === 0;
  byId("said").textContent = `Picture ${at + 1} of ${length}`;
  if (at + 1 < length) fetched(session.trials[at + 1]).catch(() => {}); // prefetched while this one is viewed
}

// Pictures by id, as object URLs: an <img> by itself would send neither key nor invitation.
const pictures = new Map();

async function fetched(trial) {
  if (!pictures.has(trial.id)) {
    const made = ask(`${urlOf(trial)}.png`).then((answer) => answer.blob()).then(URL.createObjectURL);
    pictures.set(trial.id, made);
    made.catch(() => pictures.delete(trial.id));
  }
  return pictures.get(trial.id);
}

async function load(trial) {
  const near = session.trials.slice(Math.max(at - 1, 0), at + 2).map(({ id }) => id);
  for (const [id, url] of pictures) {
    if (!near.includes(id)) pictures.delete(id) && url.then(URL.revokeObjectURL, () => {});
  }
  byId("picture").removeAttribute("src");
  try {
    const url = await fetched(trial);
    if (session.trials[at] === trial) byId("picture").src = url;
  } catch (error) {
    if (session.trials[at] === trial) tellWhy(error);
  }
}

async function rate(score) {
  if (saving) return;
  saving = true;
  byId("error").textContent = "";
  try {
    const body = JSON.stringify({ score });
    await ask(urlOf(session.trials[at]), { method: "PUT", body, headers: { "Content-Type": "application/json" } });
    session.trials[at].score = score;
    at += 1;
    at < session.trials.length ? show() : end();
  } catch (error) {
    byId("error").textContent = `The rating was not saved. ${error.message}`;
  } finally {
    saving = false;
  }
}

function end() {
  const open = firstOpen();
  if (open >= 0) return (at = open), show();
  byId("trial").hidden = true;
  byId("end").hidden = false;
  byId("thanks").focus();
}

function tellWhy(error) {
  byId("error").textContent = `The picture cannot be shown. ${error.message ?? ""}`.trim();
  if (error.retryAfter) setTimeout(show, error.retryAfter * 1000);
}

const told = (error) => (byId("error").textContent = error.message);
byId("begin").addEventListener("click", () => begin().catch(told));
byId("picture").addEventListener("error", tellWhy);
byId("picture").addEventListener("load", () => (byId("error").textContent = ""));
byId("back").addEventListener("click", () => ((at -= 1), show()));
byId("next").addEventListener("click", () => {
  const chosen = document.querySelector("[name=score]:checked");
  if (chosen) rate(Number(chosen.value));
  else byId("error").textContent = "Choose a rating first.";
});
byId("review").addEventListener("click", () => ((at = 0), show()));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || byId("trial").hidden) return;
  if ("12345".includes(event.key)) rate(Number(event.key));
});
open().catch(() => localStorage.removeItem(KEEP));
