// One picture of the list: its file, its state and its element.

import { byId, bytes, duration } from "./words.js";

const EXTENSIONS = { jpeg: "jpg", tiff: "tif" };

// What `auto` took, and why.
const choiceIn = (choice) => (choice ? `${choice.model}: ${choice.reason}` : "");

// The same from the header Enlarger-Choice: a token with the parameter reason="...".
export function choiceTold(headers) {
  const [, model, reason] = /^([^;]+);reason="([^"]*)"/.exec(headers.get("Enlarger-Choice") || "") || [];
  return model ? choiceIn({ model, reason }) : "";
}

export class Job {
  // acts: what each button does, by name; called with the job.
  constructor(file, acts) {
    this.file = file;
    this.url = URL.createObjectURL(file);
    this.state = "waiting"; // or running, done, failed, cancelled
    this.element = byId("job").content.firstElementChild.cloneNode(true);
    const thumb = this.part("thumb");
    thumb.src = this.url;
    thumb.onerror = () => {
      this.unseen = true; // TIFF, for one
      thumb.replaceWith(Object.assign(document.createElement("span"), { className: "thumb" }));
    };
    this.part("name").textContent = file.name;
    this.bar = this.element.querySelector("progress");
    this.bar.setAttribute("aria-label", `Progress of ${file.name}`);
    for (const button of this.element.querySelectorAll("[data-act]")) {
      button.setAttribute("aria-label", `${button.textContent} ${file.name}`);
      const act = acts[button.dataset.act];
      if (act) button.addEventListener("click", () => act(this));
    }
    this.paint();
  }

  part(name) {
    return this.element.querySelector(`.${name}`);
  }

  act(name) {
    return this.element.querySelector(`[data-act=${name}]`);
  }

  set(state, words = "", problem = "") {
    Object.assign(this, { state, words, problem });
    this.paint();
  }

  say(words) {
    this.part("state").textContent = this.words = words;
  }

  paint() {
    const { state, estimate } = this;
    const size = this.size || estimate;
    this.part("facts").textContent = size ? `${size.width} × ${size.height} px${this.blob ? `, ${bytes(this.blob.size)}` : ""}` : "";
    this.part("state").textContent = this.words || (state === "waiting" && estimate ? `about ${duration(estimate.seconds)}` : "");
    this.part("choice").textContent = this.choice || choiceIn(estimate?.choice);
    this.part("codes").textContent = (state === "done" && this.codes) || "";
    const problem = this.problem || (state === "waiting" && this.refused) || "";
    if (this.part("problem").textContent !== problem) this.part("problem").textContent = problem;
    this.bar.hidden = state !== "running";
    this.act("cancel").hidden = state !== "running";
    this.act("again").hidden = !["failed", "cancelled"].includes(state);
    this.act("download").hidden = state !== "done";
    this.act("show").hidden = state !== "done" || this.shown;
    this.element.classList.toggle("shown", Boolean(this.shown));
    this.element.dataset.state = state;
  }

  begin() {
    URL.revokeObjectURL(this.result);
    this.controller = new AbortController();
    this.size = this.blob = this.preview = this.codes = this.choice = null;
    this.rows = 0;
    this.bar.removeAttribute("value");
    this.set("running", "Sending …");
  }

  // The file is complete.
  finish() {
    this.rows = this.size.height;
    this.result = URL.createObjectURL(this.blob);
    const link = this.act("download");
    const type = this.blob.type.replace("image/", "");
    const stem = this.file.name.replace(/\.[^.]*$/, "") || "picture";
    link.href = this.result;
    link.download = `${stem}-${this.size.width}x${this.size.height}.${EXTENSIONS[type] || type}`;
    const took = (performance.now() - this.started) / 1000;
    this.set("done", `Done in ${duration(took)}.${this.preview ? "" : " A browser cannot show this format."}`);
  }

  letGo() {
    this.controller?.abort();
    URL.revokeObjectURL(this.url);
    URL.revokeObjectURL(this.result);
    this.element.remove();
  }
}
