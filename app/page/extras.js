// What some servers offer in addition: QR codes made readable, pictures drawn from noise.

import { ask } from "./server.js";
import { byId, say } from "./words.js";

// Enlarger-Codes-*: percent-encoded texts, separated by commas.
const told = (value) =>
  (value || "").split(",").map((each) => decodeURIComponent(each.trim())).filter(Boolean).map((text) => `“${text}”`).join(", ") || "nothing";
const codes = (headers, when) => headers.get(`Enlarger-Codes-${when}`);

export function codesRead(headers) {
  return codes(headers, "Before") === null ? "" : `Read before: ${told(codes(headers, "Before"))}; after: ${told(codes(headers, "After"))}.`;
}

export function addExtras({ models, generators, codes }) {
  byId("codes").hidden = !models.some(({ name }) => name === "qr");
  byId("codes").addEventListener("submit", (event) => work(event, () => tryCode(codes)));
  byId("generators").hidden = !generators.length;
  byId("generator").replaceChildren(...generators.map(({ name }) => new Option(name, name)));
  byId("generators").addEventListener("submit", (event) => work(event, draw));
}

async function work(event, act) {
  event.preventDefault();
  const [form, problem] = [event.target, event.target.querySelector(".problem")];
  const button = form.querySelector("button");
  button.disabled = true;
  problem.textContent = "";
  await act(form).catch((error) => (problem.textContent = error.message));
  button.disabled = false;
}

async function show(image, answer) {
  const blob = await answer.blob();
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
}

// The sample: drawn by training/data/qrcodes.py, version 1 at 1.5 pixels per module, blurred by 0.8 pixels.
async function tryCode(reads) {
  const body = await (await ask(byId("code-before").src)).blob();
  const answer = await ask(`upscale?model=qr&scale=4&format=png${reads ? "&decode=true" : ""}`, { method: "POST", body });
  await show(byId("code-after"), answer);
  byId("code-after").parentElement.hidden = false;
  for (const when of ["Before", "After"])
    byId(`read-${when}`).textContent = `${when}: ${reads ? `a reader reads ${told(codes(answer.headers, when))}` : "this server has no code reader"}`;
  say(`${byId("read-Before").textContent}. ${byId("read-After").textContent}.`);
}

async function draw() {
  const chosen = new URLSearchParams({ model: byId("generator").value, count: byId("count").value });
  if (byId("seed").value) chosen.set("seed", byId("seed").value);
  const answer = await ask("generate", { method: "POST", body: chosen });
  await show(byId("drawn"), answer);
  byId("drawn").alt = `${chosen.get("count")} pictures drawn by ${chosen.get("model")}`;
  byId("drawn").hidden = false;
  byId("drawn-seed").textContent = `Seed ${answer.headers.get("Enlarger-Seed")}: the same seed draws the same pictures.`;
}
