/** MurmurHash3_x86_128 against published values. */
import { expect, test } from "vitest";
import { hash128, hashWords } from "../../../lib/engine/hash128.js";

const hex = (text: string): string => {
  const bytes = Buffer.from(`##${text}`, "utf8");
  hash128(bytes, 2, bytes.length);
  return [...hashWords].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
};

test("hashes as the reference implementation does", () => {
  // Values of PyPI's mmh3 5, `hash_bytes(text, 0, x64arch=False)` as little-endian words.
  expect(hex("I will not buy this record, it is scratched.")).toBe(
    "a0a9683b25ac5e40d9af2895890dddf5",
  );
  expect(hex("x".repeat(37))).toBe("bcab0d55312d76b730865f80fb0a7f16");
  expect(hex("")).toBe("00000000000000000000000000000000");
});

test("every length up to three blocks gives another hash", () => {
  const seen = new Set(Array.from({ length: 48 }, (_, length) => hex("x".repeat(length))));
  expect(seen.size).toBe(48);
});
