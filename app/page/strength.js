// How strongly a network cleans and sharpens: the slider, and its effect on a part of the shown picture, at once.
// Loaded only from a server with a network that has a strength.

import { ask } from "./server.js";
import { menu, parameters, wrongSetting } from "./settings.js";
import { byId } from "./words.js";

const LEAST = 48, MOST = 128; // sides of the part, pixels of the picture
const FLAT = 5 / 8; // its height by its width
const QUIET = 150; // milliseconds after the last movement until the server is asked
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const within = (value, least, most) => Math.max(least, Math.min(most, value));
const percent = () => `${Math.round(byId("strength").value * 100)} %`;

export class Strength {
  constructor() {
    this.slider = byId("strength");
    this.picture = byId("part-image"); // the whole picture, in which the part is chosen
    this.plain = byId("part-before");
    this.asking = new AbortController();
    this.picture.onload = () => this.begin();
    this.picture.onerror = () => (byId("trial").hidden = true); // TIFF, for one
    this.slider.addEventListener("input", (event) => {
      event.stopPropagation(); // it changes neither the other fields nor any estimate
      this.moved();
    });
    byId("part").addEventListener("click", (event) => this.point(event));
    byId("part").addEventListener("keydown", (event) => this.press(event));
    byId("settings").addEventListener("input", () => this.settle());
    this.settle();
  }

  // The picture that is in the viewer, by its URL.
  show(url) {
    this.centre = [0.5, 0.5]; // of the part, as shares of the picture
    this.picture.src = url;
  }

  hide() {
    this.asking.abort();
    clearTimeout(this.waiting);
    byId("trial").hidden = true;
    this.picture.removeAttribute("src");
  }

  begin() {
    byId("trial").hidden = false;
    byId("part-result").removeAttribute("src");
    byId("part-result").alt = byId("part-told").textContent = "";
    this.moved();
  }

  // Shows the slider if the chosen model has a strength.
  settle() {
    const range = menu.models.find(({ name }) => name === byId("model").value)?.strength;
    byId("strength-field").hidden = !range;
    if (range && this.model !== byId("model").value) this.slider.value = range.default;
    this.model = byId("model").value;
    this.moved();
  }

  moved() {
    byId("strength-level").value = percent();
    this.slider.setAttribute("aria-valuetext", percent());
    this.asking.abort();
    clearTimeout(this.waiting);
    if (byId("strength-field").hidden || byId("trial").hidden) return;
    this.cut();
    if (!wrongSetting()) this.waiting = setTimeout(() => this.ask(), QUIET);
  }

  // -- the part

  point({ offsetX, offsetY }) {
    this.place(offsetX / this.picture.clientWidth, offsetY / this.picture.clientHeight);
  }

  press(event) {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    const [across, down] = KEYS[event.key];
    this.place(this.centre[0] + across / 16, this.centre[1] + down / 16);
  }

  place(x, y) {
    this.centre = [within(x, 0, 1), within(y, 0, 1)];
    this.moved();
  }

  scale() {
    const { scale, width = Infinity, height = Infinity } = parameters();
    const { naturalWidth, naturalHeight } = this.picture;
    return within(Number(scale) || Math.min(width / naturalWidth, height / naturalHeight), 1, 8);
  }

  // Cuts as much as appears at one to one, and marks it in the picture.
  cut() {
    const { naturalWidth, naturalHeight } = this.picture;
    const seen = Math.round((byId("trial").clientWidth * devicePixelRatio) / this.scale());
    const width = Math.min(within(seen, LEAST, MOST), naturalWidth);
    const height = Math.min(Math.round(width * FLAT), naturalHeight);
    const left = within(Math.round(this.centre[0] * naturalWidth - width / 2), 0, naturalWidth - width);
    const top = within(Math.round(this.centre[1] * naturalHeight - height / 2), 0, naturalHeight - height);
    const [across, down] = [100 / naturalWidth, 100 / naturalHeight];
    const box = { left: left * across, top: top * down, width: width * across, height: height * down };
    for (const [side, share] of Object.entries(box)) byId("part-mark").style[side] = `${share}%`;
    this.part = Object.assign(document.createElement("canvas"), { width, height });
    this.part.getContext("2d").drawImage(this.picture, left, top, width, height, 0, 0, width, height);
    this.enlargePlainly();
  }

  enlargePlainly() {
    const { width, height } = this.part;
    Object.assign(this.plain, { width: Math.round(width * this.scale()), height: Math.round(height * this.scale()) });
    byId("part-result").style.aspectRatio = width / height; // nothing moves when it arrives
    const context = this.plain.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.part, 0, 0, this.plain.width, this.plain.height);
  }

  // -- the request

  async ask() {
    const { signal } = (this.asking = new AbortController());
    const told = percent();
    byId("part-problem").textContent = "";
    try {
      const image = await new Promise((resolve) => this.part.toBlob(resolve));
      const answer = await ask("upscale", { method: "POST", body: this.form(image), signal });
      const result = await answer.blob();
      if (signal.aborted) return;
      this.appear(result, told);
    } catch (error) {
      if (!signal.aborted) byId("part-problem").textContent = error.message;
    }
  }

  form(image) {
    const form = new FormData();
    const { model, strength } = parameters();
    for (const [name, value] of Object.entries({ model, strength, scale: this.scale(), format: "png" })) form.set(name, value);
    form.set("image", image, "part.png");
    return form;
  }

  appear(result, told) {
    const image = byId("part-result");
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(result);
    image.alt = `The part at a strength of ${told}`;
    byId("part-told").textContent = `Strength ${told}`;
  }
}
