// A PNG decoded while it arrives: chunks are parsed as bytes come, IDAT is inflated by the browser, the row filters are
// undone and the rows passed on as RGBA. PNG specification (W3C, third edition): 5.3 chunks, 9.2 filters.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const CHANNELS = { 0: 1, 4: 2, 2: 3, 6: 4 }; // by colour type; 3 is the palette, which the service does not write

const BUSY = 12; // milliseconds of decoding before yielding to the event loop: most of a frame

// A turn of the event loop. Timers are throttled in background tabs.
const { port1, port2 } = new MessageChannel();
const turn = () => new Promise((resolve) => {
  port1.onmessage = resolve;
  port2.postMessage(0);
});

// A valid file that cannot be shown while it arrives.
export class Unshowable extends Error {}

export class PngDecoder {
  // onHeader({ width, height, alpha, profile }) once, before the first row; profile: the file has a colour profile.
  // onRows(top, rgba, count): RGBA of 8 bits; of 16-bit samples the upper byte.
  constructor(onHeader, onRows) {
    this.onHeader = onHeader;
    this.onRows = onRows;
    this.gathered = new Uint8Array(13); // the signature, a chunk's head, IHDR's data or a CRC: whatever is fixed in size
    this.have = 0;
    this.wanted = 8;
    this.state = "signature";
    this.kind = "";
    this.left = 0; // bytes of the chunk's data still to come
    this.top = 0;
    this.header = { profile: false };
    this.ended = false;
  }

  async push(bytes) {
    for (let at = 0; at < bytes.length; ) {
      if (this.state === "data") {
        const piece = bytes.subarray(at, at + this.left);
        at += piece.length;
        this.left -= piece.length;
        if (this.kind === "IDAT") await this.inflate(piece);
        if (!this.left) this.expect("crc", 4);
      } else {
        const piece = bytes.subarray(at, at + this.wanted - this.have);
        this.gathered.set(piece, this.have);
        this.have += piece.length;
        at += piece.length;
        if (this.have === this.wanted) this.gatheredAll();
      }
    }
  }

  // Resolves when every row has been passed on; throws if the file is incomplete.
  async finish() {
    if (!this.ended) throw new Error("the file ends before its last chunk");
    await this.writer.close();
    await this.inflating;
    if (this.top !== this.header.height) throw new Error("rows are missing");
  }

  expect(state, wanted) {
    this.state = state;
    this.wanted = wanted;
    this.have = 0;
  }

  gatheredAll() {
    const view = new DataView(this.gathered.buffer);
    if (this.state === "signature") {
      if (SIGNATURE.some((byte, i) => byte !== this.gathered[i])) throw new Error("not a PNG");
      this.expect("head", 8);
    } else if (this.state === "head") {
      this.left = view.getUint32(0);
      this.kind = String.fromCharCode(...this.gathered.subarray(4, 8));
      if (this.kind === "iCCP" || this.kind === "cICP") this.header.profile = true;
      if (this.kind === "IDAT" && !this.writer) this.begin();
      if (this.kind === "IEND") this.ended = true;
      if (this.kind === "IHDR") this.expect("ihdr", 13);
      else if (this.left) this.state = "data";
      else this.expect("crc", 4);
    } else if (this.state === "ihdr") {
      this.readHeader(view);
      this.expect("crc", 4);
    } else {
      this.expect("head", 8);
    }
  }

  readHeader(view) {
    const [depth, colour, , , interlaced] = this.gathered.subarray(8, 13);
    this.channels = CHANNELS[colour];
    if (!this.channels || depth < 8 || interlaced) throw new Unshowable("a variety of PNG that cannot be shown row by row");
    this.step = depth / 8; // bytes per sample
    Object.assign(this.header, { width: view.getUint32(0), height: view.getUint32(4), alpha: colour >= 4 });
  }

  begin() {
    this.pixel = this.channels * this.step;
    this.line = new Uint8Array(1 + this.header.width * this.pixel); // a filtered row, its filter first
    this.prior = new Uint8Array(this.line.length); // the row above, unfiltered
    this.filled = 0;
    this.onHeader(this.header);
    const stream = new DecompressionStream("deflate"); // RFC 1950; checks the Adler-32 at the end
    this.writer = stream.writable.getWriter();
    this.inflating = this.readRows(stream.readable.getReader());
    this.inflating.catch(() => {}); // reported by the writer, or by finish()
  }

  async inflate(piece) {
    await this.writer.ready; // no faster than the rows are drawn
    await this.writer.write(piece);
  }

  // Lets the browser paint now and then: a whole band at once would keep the first rows off the screen for a second.
  async readRows(reader) {
    let began = performance.now();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      this.takeRows(part.value);
      if (performance.now() - began < BUSY) continue;
      await turn();
      began = performance.now();
    }
  }

  takeRows(bytes) {
    const { width, height } = this.header;
    const count = Math.floor((this.filled + bytes.length) / this.line.length);
    const pixels = new Uint8ClampedArray(count * width * 4);
    const first = this.top;
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + this.line.length - this.filled);
      this.line.set(piece, this.filled);
      this.filled += piece.length;
      at += piece.length;
      if (this.filled < this.line.length) break;
      if (this.top === height) throw new Error("more rows than the header tells");
      unfilter(this.line, this.prior, this.pixel);
      toRgba(this.line, pixels, (this.top - first) * width * 4, this.channels, this.step);
      [this.line, this.prior] = [this.prior, this.line];
      this.filled = 0;
      this.top += 1;
    }
    if (count) this.onRows(first, pixels, count);
  }
}

// The five filters' predictors: from the one left of it, the one above, and the one above that (9.2).
const GUESSES = [() => 0, (left) => left, (_, above) => above, (left, above) => (left + above) >> 1, paeth];

// Undoes a row's filter in place; both arrays have the filter's byte before the samples.
function unfilter(line, prior, pixel) {
  const guess = GUESSES[line[0]];
  if (!guess) throw new Error("no such row filter");
  if (guess === GUESSES[2]) {
    for (let i = 1; i < line.length; i++) line[i] += prior[i]; // the service's own filter, hence a fast path
    return;
  }
  for (let i = 1; i < line.length; i++)
    line[i] += i > pixel ? guess(line[i - pixel], prior[i], prior[i - pixel]) : guess(0, prior[i], 0);
}

function paeth(left, above, corner) {
  const toLeft = Math.abs(above - corner);
  const toAbove = Math.abs(left - corner);
  const toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

function toRgba(line, pixels, to, channels, step) {
  const colours = channels > 2;
  const alpha = channels % 2 === 0;
  for (let from = 1; from < line.length; to += 4) {
    pixels[to] = line[from];
    pixels[to + 1] = colours ? line[from + step] : line[from];
    pixels[to + 2] = colours ? line[from + 2 * step] : line[from];
    pixels[to + 3] = alpha ? line[from + (channels - 1) * step] : 255;
    from += channels * step;
  }
}
