// The page: menus from GET /models, one request, its answer read as it streams in.

const form = document.getElementById("form");
const byId = (id) => document.getElementById(id);
let models = [];
let running = null; // the AbortController of the request under way

function fillScales() {
  const model = models.find((m) => m.name === form.model.value);
  const before = form.scale.value || "4";
  form.scale.replaceChildren(...model.scales.map((s) => new Option(`×${s.scale}`, s.scale)));
  form.scale.value = model.scales.some((s) => String(s.scale) === before) ? before : model.scales.at(-1).scale;
}

async function loadModels() {
  const answer = await (await fetch("models")).json();
  models = answer.models;
  form.model.replaceChildren(...models.map((m) => new Option(m.name, m.name, m.default, m.default)));
  for (const [i, option] of [...form.model.options].entries()) option.title = models[i].summary;
  fillScales();
}

async function enlarge(data) {
  running = new AbortController();
  const answer = await fetch("upscale", { method: "POST", body: data, signal: running.signal });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  const seconds = answer.headers.get("Enlarger-Estimated-Seconds");
  const size = answer.headers.get("Enlarger-Output-Size").replace("x", " × ");
  const pieces = [];
  let received = 0;
  for await (const piece of readAll(answer.body)) {
    pieces.push(piece);
    received += piece.length;
    byId("status").textContent = `${size} pixels, about ${seconds} s: ${(received / 1e6).toFixed(1)} MB so far`;
  }
  show(new Blob(pieces, { type: answer.headers.get("Content-Type") }), size, data.get("image").name);
}

async function* readAll(stream) {
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

function show(blob, size, name) {
  URL.revokeObjectURL(byId("picture").src);
  byId("picture").src = byId("download").href = URL.createObjectURL(blob);
  const extension = blob.type.replace("image/", "").replace("jpeg", "jpg");
  byId("download").download = `${name.replace(/\.[^.]*$/, "")}-enlarged.${extension}`;
  byId("facts").textContent = `${size} pixels, ${(blob.size / 1e6).toFixed(1)} MB`;
  byId("result").hidden = false;
}

function busy(on) {
  byId("go").disabled = on;
  byId("cancel").hidden = byId("progress").hidden = !on;
}

function take(files) {
  if (!files.length) return;
  const transfer = new DataTransfer();
  transfer.items.add(files[0]);
  form.image.files = transfer.files;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("error").textContent = byId("status").textContent = "";
  busy(true);
  try {
    await enlarge(new FormData(form));
    byId("status").textContent = "Done.";
  } catch (error) {
    byId("status").textContent = "";
    byId("error").textContent = error.name === "AbortError" ? "Cancelled." : error.message;
  } finally {
    busy(false);
  }
});
byId("cancel").addEventListener("click", () => running.abort());
form.model.addEventListener("change", fillScales);
document.addEventListener("paste", (event) => take(event.clipboardData.files));
for (const kind of ["dragover", "dragleave", "drop"]) {
  byId("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
}
loadModels();
