/** The bytes of a stored file: a checksummed header, JSON, and a binary payload. */
import { crc32 } from "node:zlib";
import { MillpondError } from "../errors.js";

/** Magic, version, crc32 of all that follows, bytes of JSON; then JSON, then the payload. */
const MAGIC = 0x4d504e44;
const VERSION = 1;
const HEADER_BYTES = 16;
const CRC_OFFSET = 8;
const CRC_FROM = 12;

export interface Content {
  readonly json: unknown;
  readonly payload: Uint8Array;
}

export function encode({ json, payload }: Content): Uint8Array[] {
  const text = json === null ? new Uint8Array() : Buffer.from(JSON.stringify(json));
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(MAGIC, 0);
  header.writeUInt32LE(VERSION, 4);
  header.writeUInt32LE(text.length, CRC_FROM);
  const crc = crc32(payload, crc32(text, crc32(header.subarray(CRC_FROM))));
  header.writeUInt32LE(crc, CRC_OFFSET);
  return [header, text, payload];
}

export function decode(path: string, bytes: Buffer): Content {
  if (bytes.length < HEADER_BYTES) throw damaged(path, `it has only ${bytes.length} bytes`);
  if (bytes.readUInt32BE(0) !== MAGIC) throw damaged(path, "it does not start as our files do");
  if (bytes.readUInt32LE(4) !== VERSION) {
    throw damaged(path, `its format is ${bytes.readUInt32LE(4)}, this version reads ${VERSION}`);
  }
  if (crc32(bytes.subarray(CRC_FROM)) !== bytes.readUInt32LE(CRC_OFFSET)) {
    throw damaged(path, "its checksum is wrong");
  }
  const textEnd = HEADER_BYTES + bytes.readUInt32LE(CRC_FROM);
  const text = bytes.toString("utf8", HEADER_BYTES, textEnd);
  return { json: text === "" ? null : JSON.parse(text), payload: bytes.subarray(textEnd) };
}

export function damaged(path: string, found: string): MillpondError {
  return new MillpondError(
    "STORAGE",
    `${path} is damaged: ${found}. Restore the whole output from a copy, ` +
      "or process the input again into a new one",
  );
}
