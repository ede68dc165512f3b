/** Damaged compressed batches end in an error of ours; that sound ones are read, a broker shows. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { MillpondError } from "../../../lib/errors.js";
import { lz4Decompress, snappyDecompress } from "../../../lib/sources/kafka/codecs.js";

/** "hello hello hello hello\n": a literal, then a copy that overlaps itself. */
const SNAPPY = Buffer.from("18 14 68656c6c6f20 42 0600 00 0a".replaceAll(" ", ""), "hex");
const LZ4 = Buffer.from(
  "04224d18 40 40 c0 0b000000 6d 68656c6c6f20 0600 10 0a 00000000".replaceAll(" ", ""),
  "hex",
);

test("reads a literal and a copy that overlaps itself", () => {
  expect(snappyDecompress(SNAPPY).toString()).toBe("hello hello hello hello\n");
  expect(lz4Decompress(LZ4).toString()).toBe("hello hello hello hello\n");
});

test.each([
  ["Snappy", snappyDecompress, SNAPPY],
  ["LZ4", lz4Decompress, LZ4],
])("a damaged %s batch is an error, and never runs away", (_name, decompress, sound) => {
  const isOurs = (bytes: Buffer) => {
    try {
      decompress(bytes);
      return true;
    } catch (error) {
      return error instanceof MillpondError;
    }
  };
  for (let length = 0; length < sound.length; length++) {
    expect(isOurs(sound.subarray(0, length))).toBe(true);
  }
  const anyByte = fc.tuple(fc.nat(sound.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(anyByte, { maxLength: 4 }), (changes) => {
      const bytes = Buffer.from(sound);
      for (const [at, byte] of changes) bytes[at] = byte;
      expect(isOurs(bytes)).toBe(true);
    }),
  );
});
