// A response as it arrives: keeps its bytes, draws its rows and reports its progress.

import { JpegDecoder } from "./jpeg.js";
import { PngDecoder, Unshowable } from "./png.js";
import { Preview } from "./preview.js";
import { Broken, pieces } from "./server.js";
import { bytes, duration } from "./words.js";

const DECODERS = { "image/png": PngDecoder, "image/jpeg": JpegDecoder };
const BLOB_BYTES = 8e6; // size of the pieces handed to the browser's blob store

// begun(job): there is a canvas. grown(job, share): this share of it is on screen, at most once per frame.
export async function receive(job, answer, begun, grown) {
  const type = answer.headers.get("Content-Type");
  const [width, height] = (answer.headers.get("Enlarger-Output-Size") || "").split("x").map(Number);
  if (width && height) job.size = { width, height };
  job.started = performance.now();
  const begin = (header) => {
    job.size = { width: header.width, height: header.height };
    job.recolour = header.profile; // rows were drawn without the profile, or the last of them were not drawn
    job.preview = new Preview(header);
    begun(job);
  };
  const draw = (top, pixels, rows) => {
    if (pixels instanceof ImageBitmap) job.preview.bitmap(top, pixels);
    else job.preview.rows(top, pixels, rows);
    job.rows = top + rows;
    tell(job, grown);
  };
  let decoder = type in DECODERS ? new DECODERS[type](begin, draw) : null;
  let blob = new Blob([], { type });
  let parts = [], held = 0;
  job.set("running", `Computing, about ${duration(Number(answer.headers.get("Enlarger-Estimated-Seconds")))} …`);
  for await (const piece of pieces(answer)) {
    parts.push(piece);
    held += piece.length;
    if (held > BLOB_BYTES) [blob, parts, held] = [new Blob([blob, ...parts], { type }), [], 0];
    decoder = await pushed(decoder, piece);
    if (!decoder) job.say(`${bytes(blob.size + held)} received; it appears when it is finished`);
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

// At most once per frame: rows come by the thousand.
function tell(job, grown) {
  if (job.painting) return;
  job.painting = true;
  requestAnimationFrame(() => {
    job.painting = false;
    if (job.state !== "running") return;
    const done = job.rows / job.size.height;
    const left = ((performance.now() - job.started) / 1000) * (1 / done - 1);
    job.bar.value = done;
    job.say(`${job.rows} of ${job.size.height} rows${done > 0.1 && left > 1 ? `, about ${duration(left)} left` : ""}`);
    grown(job, done);
  });
}

// For formats that cannot be shown in part, for colour profiles, and for skipped rows: draws the finished file again.
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
    if (!early) job.preview = null; // e.g. TIFF, which browsers do not show
  }
  job.controller.signal.throwIfAborted();
}
