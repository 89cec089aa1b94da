/**
 * MessagePack, as far as the protocol needs it: what JSON can say, and bytes. It knows no frames; what it cannot
 * read it throws as a RangeError or a TypeError.
 */

const FIRST_BYTES = 256;
/** A frame's texts are mostly short and ASCII: read by hand they cost half of what a TextDecoder takes. */
const SHORT = 64;
const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * Packs a value; what JSON leaves out or turns into null is treated in the same way.
 *
 * @param {unknown} value
 */
export function pack(value) {
  const writer = new Writer();
  writer.value(value);
  return writer.bytes;
}

/**
 * Unpacks exactly one value.
 *
 * @param {Uint8Array} bytes what is bytes within the value is a copy
 * @returns {unknown}
 */
export function unpack(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value();
  if (!reader.isAtEnd) throw new RangeError("something follows the value");
  return value;
}

class Writer {
  #view = new DataView(new ArrayBuffer(FIRST_BYTES));
  #length = 0;

  get bytes() {
    return new Uint8Array(this.#view.buffer, 0, this.#length);
  }

  /** @param {unknown} value */
  value(value) {
    if (typeof value === "string") this.#text(value);
    else if (typeof value === "number") this.#number(value);
    else if (typeof value === "boolean") this.#put(value ? 0xc3 : 0xc2);
    else if (typeof value !== "object" || value === null) this.#put(0xc0);
    else if (ArrayBuffer.isView(value)) this.#binary(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    else if (value instanceof ArrayBuffer) this.#binary(new Uint8Array(value));
    else if (Array.isArray(value)) this.#array(value);
    else if ("toJSON" in value && typeof value.toJSON === "function") this.value(value.toJSON());
    else this.#map(Object.entries(value).filter(([, item]) => isSaid(item)));
  }

  /** @param {unknown[]} items */
  #array(items) {
    this.#head(items.length, [0x90, 15], 0, 0xdc, 0xdd);
    for (const item of items) this.value(item);
  }

  /** @param {[string, unknown][]} entries */
  #map(entries) {
    this.#head(entries.length, [0x80, 15], 0, 0xde, 0xdf);
    for (const [name, item] of entries) {
      this.#text(name);
      this.value(item);
    }
  }

  /** @param {string} text */
  #text(text) {
    const bytes = utf8.encode(text);
    this.#head(bytes.length, [0xa0, 31], 0xd9, 0xda, 0xdb);
    this.#append(bytes);
  }

  /** @param {Uint8Array} bytes */
  #binary(bytes) {
    this.#head(bytes.length, [0, -1], 0xc4, 0xc5, 0xc6);
    this.#append(bytes);
  }

  /**
   * The shortest head that tells this length.
   *
   * @param {number} length
   * @param {[number, number]} fixed the first one-byte head, and up to which length they go
   * @param {number} one the head with one byte of length, 0 where there is none
   * @param {number} two
   * @param {number} four
   */
  #head(length, [fixed, most], one, two, four) {
    if (length <= most) this.#put(fixed | length);
    else if (one && length < 0x100) this.#put(one, [1, length]);
    else if (length < 0x1_0000) this.#put(two, [2, length]);
    else this.#put(four, [4, length]);
  }

  /** @param {number} number */
  #number(number) {
    if (!Number.isFinite(number)) this.#put(0xc0);
    else if (!Number.isSafeInteger(number) || Object.is(number, -0)) this.#float(number);
    else if (number >= 0) this.#natural(number);
    else this.#negative(number);
  }

  /** @param {number} number */
  #natural(number) {
    if (number < 0x80) this.#put(number);
    else if (number < 0x100) this.#put(0xcc, [1, number]);
    else if (number < 0x1_0000) this.#put(0xcd, [2, number]);
    else if (number < 0x1_0000_0000) this.#put(0xce, [4, number]);
    else this.#put(0xcf, [8, number]);
  }

  /** @param {number} number */
  #negative(number) {
    if (number >= -0x20) this.#put(number & 0xff);
    else if (number >= -0x80) this.#put(0xd0, [1, number & 0xff]);
    else if (number >= -0x8000) this.#put(0xd1, [2, number & 0xffff]);
    else if (number >= -0x8000_0000) this.#put(0xd2, [4, number >>> 0]);
    else this.#put(0xd3, [8, number]);
  }

  /** @param {number} number */
  #float(number) {
    this.#put(0xcb);
    const at = this.#grow(8);
    this.#view.setFloat64(at, number);
  }

  /**
   * @param {number} head
   * @param {[number, number]} rest how many bytes follow, and what they say
   */
  #put(head, rest = [0, 0]) {
    const [size, number] = rest;
    const at = this.#grow(1 + size) + 1;
    this.#view.setUint8(at - 1, head);
    if (size === 0) return;
    if (size === 1) this.#view.setUint8(at, number);
    else if (size === 2) this.#view.setUint16(at, number);
    else if (size === 4) this.#view.setUint32(at, number);
    else this.#view.setBigInt64(at, BigInt(number));
  }

  /** @param {Uint8Array} bytes */
  #append(bytes) {
    const at = this.#grow(bytes.length);
    new Uint8Array(this.#view.buffer).set(bytes, at);
  }

  /** Makes room for so many bytes, and says where. @param {number} size */
  #grow(size) {
    const at = this.#length;
    this.#length += size;
    if (this.#length > this.#view.byteLength) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#view.byteLength));
      larger.set(new Uint8Array(this.#view.buffer, 0, at));
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}

class Reader {
  #bytes;
  #view;
  #at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd() {
    return this.#at === this.#bytes.length;
  }

  /** @returns {unknown} */
  value() {
    const head = this.#view.getUint8(this.#take(1));
    if (head < 0x80) return head;
    if (head < 0x90) return this.#map(head & 15);
    if (head < 0xa0) return this.#array(head & 15);
    if (head < 0xc0) return this.#text(head & 31);
    if (head >= 0xe0) return head - 0x100;
    return this.#long(head);
  }

  /** @param {number} head */
  #long(head) {
    if (head === 0xc0) return null;
    if (head === 0xc2 || head === 0xc3) return head === 0xc3;
    if (head <= 0xc6 && head >= 0xc4) return this.#binary(this.#natural(1 << (head - 0xc4)));
    if (head === 0xca) return this.#view.getFloat32(this.#take(4));
    if (head === 0xcb) return this.#view.getFloat64(this.#take(8));
    if (head >= 0xcc && head <= 0xcf) return this.#natural(1 << (head - 0xcc));
    if (head >= 0xd0 && head <= 0xd3) return this.#integer(1 << (head - 0xd0));
    if (head >= 0xd9 && head <= 0xdb) return this.#text(this.#natural(1 << (head - 0xd9)));
    if (head === 0xdc || head === 0xdd) return this.#array(this.#natural(head === 0xdc ? 2 : 4));
    if (head === 0xde || head === 0xdf) return this.#map(this.#natural(head === 0xde ? 2 : 4));
    throw new TypeError(`0x${head.toString(16)} is no part of the protocol`);
  }

  /** @param {number} size in bytes */
  #natural(size) {
    const at = this.#take(size);
    if (size === 1) return this.#view.getUint8(at);
    if (size === 2) return this.#view.getUint16(at);
    return size === 4 ? this.#view.getUint32(at) : Number(this.#view.getBigUint64(at));
  }

  /** @param {number} size in bytes */
  #integer(size) {
    const at = this.#take(size);
    if (size === 1) return this.#view.getInt8(at);
    if (size === 2) return this.#view.getInt16(at);
    return size === 4 ? this.#view.getInt32(at) : Number(this.#view.getBigInt64(at));
  }

  /** @param {number} length */
  #text(length) {
    const bytes = this.#slice(length);
    return (length <= SHORT ? asciiOf(bytes) : null) ?? fromUtf8.decode(bytes);
  }

  /** @param {number} length */
  #binary(length) {
    return this.#slice(length).slice();
  }

  /** @param {number} length */
  #array(length) {
    const items = [];
    for (let index = 0; index < length; index += 1) items.push(this.value());
    return items;
  }

  /** @param {number} length */
  #map(length) {
    /** @type {[string, unknown][]} */
    const entries = [];
    for (let index = 0; index < length; index += 1) {
      const name = this.value();
      if (typeof name !== "string") throw new TypeError("a field's name is text");
      entries.push([name, this.value()]);
    }
    return Object.fromEntries(entries);
  }

  /** @param {number} length */
  #slice(length) {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** @param {number} size */
  #take(size) {
    const at = this.#at;
    if (at + size > this.#bytes.length) throw new RangeError("it ends too early");
    this.#at += size;
    return at;
  }
}

/** @param {Uint8Array} bytes @returns {string | null} null when it is no ASCII */
function asciiOf(bytes) {
  let text = "";
  for (const code of bytes) {
    if (code >= 0x80) return null;
    text += String.fromCharCode(code);
  }
  return text;
}

/** Whether JSON would write a field with this value. @param {unknown} value */
function isSaid(value) {
  return value !== undefined && typeof value !== "function" && typeof value !== "symbol";
}
