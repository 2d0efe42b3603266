// Jobs: pictures submitted now and fetched later. The server keeps the list, so it survives a reload.

import { ask } from "./server.js";
import { byId, bytes, duration, say } from "./words.js";

const WORDS = { queued: "Waiting", processing: "Processing", succeeded: "Done", failed: "Failed", canceled: "Cancelled" };
const running = ({ status }) => status === "queued" || status === "processing";
const followed = new Map(); // event sources of running jobs, by id

// take: removes the waiting pictures from the list and returns each as [name, form].
export async function addJobs(take) {
  byId("later").hidden = false;
  byId("later").addEventListener("click", () => handIn(take()).catch((error) => (byId("error").textContent = error.message)));
  for (const job of (await (await ask("jobs")).json()).jobs) place(job);
}

async function handIn(pictures) {
  byId("later").disabled = true;
  try {
    for (const [name, form] of pictures) {
      form.delete("decode"); // a job's result has no headers for codes
      const answer = await ask("jobs", { method: "POST", body: form });
      place(await answer.json(), true);
      say(`${name} is handed in`);
    }
  } finally {
    byId("later").disabled = false;
  }
}

function place(job, first = false) {
  const element = byId("kept-job").content.firstElementChild.cloneNode(true);
  element.dataset.id = job.id;
  element.querySelector("[data-act=cancel]").addEventListener("click", () => remove(element));
  element.querySelector("[data-act=forget]").addEventListener("click", () => remove(element));
  byId("kept-list")[first ? "prepend" : "append"](element);
  paint(element, job);
}

function paint(element, job) {
  const name = job.filename || "Picture";
  const part = (selector) => element.querySelector(selector);
  element.dataset.state = job.status;
  part(".name").textContent = name;
  part(".state").textContent = words(job);
  part(".problem").textContent = job.error?.detail || "";
  part("progress").hidden = !running(job);
  part("progress").value = job.progress;
  part("progress").setAttribute("aria-label", `Progress of ${name}`);
  const link = part("[data-act=download]");
  link.hidden = job.status !== "succeeded" || !job.urls.result;
  if (!link.hidden) link.href = job.urls.result.slice(1);
  part("[data-act=cancel]").hidden = !running(job);
  part("[data-act=forget]").hidden = running(job);
  for (const act of element.querySelectorAll("[data-act]")) act.setAttribute("aria-label", `${act.textContent} ${name}`);
  byId("kept").hidden = false;
  if (running(job)) follow(element, job);
  else unfollow(job.id);
}

function words(job) {
  if (running(job)) return `${WORDS[job.status]}${job.seconds_left ? `, about ${duration(job.seconds_left)}` : ""}`;
  if (job.status !== "succeeded") return WORDS[job.status];
  return `${WORDS.succeeded}, ${bytes(job.bytes)}, kept until ${new Date(job.expires).toLocaleString()}`;
}

// If the connection breaks, the browser reconnects by itself and reports the last event it saw.
function follow(element, job) {
  if (followed.has(job.id)) return;
  const events = new EventSource(job.urls.get.slice(1));
  followed.set(job.id, events);
  events.addEventListener("job", (event) => {
    const now = JSON.parse(event.data);
    paint(element, now);
    if (!running(now)) say(`${now.filename || "A picture"}: ${WORDS[now.status]}`);
  });
}

function unfollow(id) {
  followed.get(id)?.close();
  followed.delete(id);
}

async function remove(element) {
  const { id } = element.dataset;
  const answer = await ask(`jobs/${id}`, { method: "DELETE" }).catch((error) => {
    element.querySelector(".problem").textContent = error.message;
  });
  if (answer?.status === 200) return paint(element, await answer.json());
  if (!answer) return;
  unfollow(id);
  element.remove();
  byId("kept").hidden = !byId("kept-list").children.length;
}
