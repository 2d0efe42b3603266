// Before and after, one over the other, divided by a slider, zoomed and panned together. Lengths are CSS pixels of the
// viewport; `zoom` is CSS pixels per pixel of the result, so 1 / devicePixelRatio is 1:1.

const byId = (id) => document.getElementById(id);
const HANDLE = 24; // how close to the divider a drag grabs it
const ARROWS = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };

export class Viewer {
  constructor() {
    this.port = byId("viewport");
    this.split = byId("split");
    this.before = byId("before");
    this.after = byId("after");
    this.image = byId("before-image");
    this.pointers = new Map();
    this.size = { width: 1, height: 1 };
    this.rows = 0; // rows of the result drawn so far
    this.fitting = true;
    this.split.addEventListener("input", () => this.lay());
    for (const [id, key] of [["fit", "0"], ["one", "1"], ["closer", "+"], ["farther", "-"]])
      byId(id).addEventListener("click", () => this.press(key));
    this.listenToPort();
    new ResizeObserver(() => (this.fitting ? this.fit() : this.lay())).observe(this.port);
  }

  // `source`: a URL that the browser may be able to show; `preview`: the result's canvas, or only its size.
  show(source, preview, rows) {
    this.size = preview;
    this.rows = rows;
    this.image.hidden = false;
    this.image.onerror = () => (this.image.hidden = true);
    this.image.src = source;
    this.after.replaceChildren(...(preview.canvas ? [preview.canvas] : []));
    this.port.classList.toggle("checks", preview.alpha);
    this.port.classList.toggle("alone", !preview.canvas); // the original, of which there is no result yet
    this.split.value = rows < preview.height ? 0 : 50;
    this.split.disabled = !preview.canvas;
    this.port.style.aspectRatio = preview.width / preview.height;
    this.fit();
  }

  drawn(rows) {
    if (rows === this.size.height && this.rows < rows && this.split.value === "0") this.split.value = 50;
    this.rows = rows;
    this.lay();
  }

  fit() {
    const { clientWidth, clientHeight } = this.port;
    this.zoom = Math.min(clientWidth / this.size.width, clientHeight / this.size.height, 1 / devicePixelRatio);
    this.x = (clientWidth - this.size.width * this.zoom) / 2;
    this.y = (clientHeight - this.size.height * this.zoom) / 2;
    this.fitting = true;
    this.lay();
  }

  zoomTo(zoom, x = this.port.clientWidth / 2, y = this.port.clientHeight / 2) {
    const ratio = Math.min(8, Math.max(0.01, zoom)) / this.zoom;
    this.x = x - (x - this.x) * ratio;
    this.y = y - (y - this.y) * ratio;
    this.zoom *= ratio;
    this.fitting = false;
    this.lay();
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.fitting = false;
    this.lay();
  }

  get movable() {
    const { clientWidth, clientHeight } = this.port;
    return this.size.width * this.zoom > clientWidth + 1 || this.size.height * this.zoom > clientHeight + 1;
  }

  lay() {
    const { clientWidth, clientHeight } = this.port;
    const [width, height] = [this.size.width * this.zoom, this.size.height * this.zoom];
    this.x = held(this.x, width, clientWidth);
    this.y = held(this.y, height, clientHeight);
    for (const layer of [this.image, this.after.firstElementChild]) {
      if (!layer) continue;
      layer.style.width = `${width}px`;
      layer.style.height = `${height}px`;
      // On whole device pixels, so that 1:1 is not blurred.
      layer.style.transform = `translate(${onPixel(this.x)}px, ${onPixel(this.y)}px)`;
    }
    this.cut(clientWidth, clientHeight);
    this.after.classList.toggle("sharp", this.zoom * devicePixelRatio > 1.99);
    this.port.classList.toggle("movable", this.movable);
    byId("zoom-level").textContent = `${Math.round(this.zoom * devicePixelRatio * 100)} %`;
  }

  // The result shows right of the divider; the original left of it, and below the last row drawn.
  cut(width, height) {
    const x = (this.split.value / 100) * width;
    const growing = this.rows < this.size.height;
    const edge = growing ? this.y + this.rows * this.zoom : height;
    const y = Math.min(height, Math.max(0, edge));
    this.port.classList.toggle("growing", growing && this.split.value === "0");
    byId("rest").hidden = !growing;
    byId("rest").style.transform = `translateY(${y}px)`;
    this.after.style.clipPath = `inset(0 0 0 ${x}px)`;
    this.before.style.clipPath =
      `polygon(0 0, ${x}px 0, ${x}px ${y}px, ${width}px ${y}px, ${width}px ${height}px, 0 ${height}px)`;
    byId("divider").style.transform = `translateX(${x}px)`;
  }

  listenToPort() {
    this.port.addEventListener("pointerdown", (event) => this.grip(event));
    this.port.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"])
      this.port.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    this.port.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.port.addEventListener("keydown", (event) => this.key(event));
  }

  grip(event) {
    if (event.button > 0) return;
    this.port.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    const x = event.clientX - this.port.getBoundingClientRect().left;
    const near = Math.abs(x - (this.split.value / 100) * this.port.clientWidth) < HANDLE;
    this.sliding = near || !this.movable;
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const box = this.port.getBoundingClientRect();
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
      const apart = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
      const [x, y] = [(event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top];
      this.zoomTo((this.zoom * apart(event)) / Math.max(1, apart(last)), x, y);
    } else if (this.sliding) {
      this.split.value = ((event.clientX - box.left) / box.width) * 100;
      this.lay();
    } else {
      this.pan(event.clientX - last.clientX, event.clientY - last.clientY);
    }
  }

  // The wheel scrolls the page unless the picture was clicked on before, or Ctrl is held.
  wheel(event) {
    if (document.activeElement !== this.port && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = this.port.getBoundingClientRect();
    this.zoomTo(this.zoom * 1.0015 ** -event.deltaY, event.clientX - box.left, event.clientY - box.top);
  }

  key(event) {
    if (!event.ctrlKey && !event.metaKey && !event.altKey && this.press(event.key)) event.preventDefault();
  }

  // The action of a key, if any.
  press(key) {
    if (ARROWS[key]) this.pan(...ARROWS[key]);
    else if (key === "+" || key === "=") this.zoomTo(this.zoom * 1.5);
    else if (key === "-") this.zoomTo(this.zoom / 1.5);
    else if (key === "1") this.zoomTo(1 / devicePixelRatio);
    else if (key === "0") this.fit();
    else return false;
    return true;
  }
}

// The position of something `length` long in a port: in the middle if it fits, else without a gap at either end.
function held(position, length, port) {
  return length <= port ? (port - length) / 2 : Math.min(0, Math.max(port - length, position));
}

function onPixel(position) {
  return Math.round(position * devicePixelRatio) / devicePixelRatio;
}
