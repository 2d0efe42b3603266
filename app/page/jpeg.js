// A JPEG shown while it arrives. The service puts a restart marker after each row of MCUs, and what follows RST7 depends
// on nothing before it (ITU T.81, F.1.1.5.1): every eight rows of MCUs, under the file's own header with the height
// patched, are a JPEG of their own, which the browser decodes, colour profile and all.

import { Unshowable } from "./png.js";

const SOF0 = 0xc0, SOS = 0xda, DRI = 0xdd, RST7 = 0xd7, EOI = 0xd9;
const GROUP = 8; // rows of MCUs between one RST7 and the next

export class JpegDecoder {
  // onHeader({ width, height, alpha, profile }) once; onBitmap(top, bitmap, rows) in order, except for the last group.
  constructor(onHeader, onBitmap) {
    this.onHeader = onHeader;
    this.onBitmap = onBitmap;
    this.held = new Uint8Array(0); // not decoded yet
    this.scanned = 0; // how much of it has been scanned
    this.top = 0;
    this.head = null; // the file up to its scan
    this.inGroups = false;
    this.ended = false;
  }

  async push(bytes) {
    const joined = new Uint8Array(this.held.length + bytes.length);
    joined.set(this.held);
    joined.set(bytes, this.held.length);
    this.held = joined;
    if (!this.head) this.readHead();
    if (this.head) await this.readScan();
  }

  async finish() {
    if (!this.ended) throw new Error("the file ends before its end marker");
  }

  // Segments are FF, marker, two bytes of length, contents (T.81, B.1.1.4).
  readHead() {
    const view = new DataView(this.held.buffer);
    let frame = 0, interval = 0;
    for (let at = 2; at + 4 <= this.held.length; ) {
      const marker = this.held[at + 1];
      const end = at + 2 + view.getUint16(at + 2);
      if (end > this.held.length) return;
      if (marker === SOF0) frame = at;
      if (marker === DRI) interval = view.getUint16(at + 4);
      if (marker === SOS) {
        this.head = this.held.slice(0, end);
        this.held = this.held.slice(end);
        this.readFrame(new DataView(this.head.buffer), frame, interval);
        return;
      }
      at = end;
    }
  }

  readFrame(view, frame, interval) {
    if (!frame) throw new Unshowable("not a baseline JPEG");
    this.heightAt = frame + 5;
    const [height, width] = [view.getUint16(frame + 5), view.getUint16(frame + 7)];
    let across = 1, down = 1;
    for (let component = 0; component < view.getUint8(frame + 9); component++) {
      const sampling = view.getUint8(frame + 11 + 3 * component);
      across = Math.max(across, sampling >> 4);
      down = Math.max(down, sampling & 15);
    }
    if (view.getUint8(frame + 9) === 1) across = down = 1; // a scan of one component has blocks, not MCUs (A.2.2)
    this.rows = GROUP * 8 * down;
    this.inGroups = interval === Math.ceil(width / (8 * across));
    this.onHeader({ width, height, alpha: false, profile: true });
  }

  async readScan() {
    for (let at = this.held.indexOf(0xff, this.scanned); at >= 0; at = this.held.indexOf(0xff, this.scanned)) {
      if (at + 1 === this.held.length) break;
      this.scanned = at + 2;
      const marker = this.held[at + 1];
      if (marker === EOI) this.ended = true;
      if (marker !== RST7) continue;
      const group = this.held.slice(0, at);
      this.held = this.held.slice(at + 2);
      this.scanned = 0;
      if (this.inGroups) await this.draw(group);
    }
    if (this.held.at(-1) !== 0xff) this.scanned = this.held.length;
  }

  async draw(group) {
    const head = this.head.slice();
    new DataView(head.buffer).setUint16(this.heightAt, this.rows);
    const bitmap = await createImageBitmap(new Blob([head, group, new Uint8Array([0xff, EOI])], { type: "image/jpeg" }));
    this.onBitmap(this.top, bitmap, this.rows);
    this.top += this.rows;
    bitmap.close();
  }
}
