// The canvas a result appears on. A result larger than a safe canvas is drawn reduced, by averaging.

const PHONE = matchMedia("(pointer: coarse)").matches;
const MAX_PIXELS = PHONE ? 2 ** 24 : 2 ** 26; // 67 million are 268 MB; phones give up above 16.7 million
const MAX_SIDE = 16384;

export class Preview {
  constructor({ width, height, alpha }) {
    this.width = width;
    this.height = height;
    this.alpha = alpha;
    const step = Math.max(Math.sqrt((width * height) / MAX_PIXELS), width / MAX_SIDE, height / MAX_SIDE, 1);
    this.step = Math.ceil(step);
    this.canvas = document.createElement("canvas");
    this.canvas.width = Math.ceil(width / this.step);
    this.canvas.height = Math.ceil(height / this.step);
    this.context = this.canvas.getContext("2d");
    this.sums = this.step > 1 ? new Float64Array(this.canvas.width * 4) : null;
    this.summed = 0; // rows in the sums
  }

  rows(top, pixels, count) {
    if (this.step === 1) {
      this.context.putImageData(new ImageData(pixels, this.width, count), 0, top);
      return;
    }
    for (let row = 0; row < count; row++) {
      this.add(pixels.subarray(row * this.width * 4, (row + 1) * this.width * 4));
      if (this.summed === this.step || top + row + 1 === this.height) this.putSums(Math.floor((top + row) / this.step));
    }
  }

  add(row) {
    for (let x = 0, at = 0; x < this.width; x++) {
      const to = Math.floor(x / this.step) * 4;
      for (let channel = 0; channel < 4; channel++) this.sums[to + channel] += row[at++];
    }
    this.summed += 1;
  }

  putSums(y) {
    const line = new ImageData(this.canvas.width, 1);
    for (let i = 0; i < this.sums.length; i++) {
      const across = Math.min(this.step, this.width - Math.floor(i / 4) * this.step);
      line.data[i] = this.sums[i] / (across * this.summed);
    }
    this.context.putImageData(line, 0, y);
    this.sums.fill(0);
    this.summed = 0;
  }

  bitmap(top, bitmap) {
    this.context.drawImage(bitmap, 0, top / this.step, this.width / this.step, bitmap.height / this.step);
  }

  // The finished file, decoded by the browser with its colour profile.
  async whole(blob) {
    const { width, height } = this.canvas;
    const smaller = this.step > 1 ? { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" } : {};
    const bitmap = await createImageBitmap(blob, smaller);
    this.context.clearRect(0, 0, width, height);
    this.context.drawImage(bitmap, 0, 0, width, height);
    bitmap.close();
  }
}
