/** Merging partials of doubles: what must not depend on how the state was cut or stored. */
import { expect, test } from "vitest";
import { variance } from "../../../lib/engine/aggregates/sums.js";

test("a variance merged into an empty group keeps its bits", () => {
  const aggregate = variance({ kind: "double" }, false);
  for (let n = 1; n < 1000; n++) {
    const lanes = [n, n / 7, Math.sqrt(n)].map((value) => Float64Array.of(value));
    const empty = [0, 0, 0].map((value) => Float64Array.of(value));
    aggregate.merge({ lanes: empty, base: 0 }, 0, { lanes, base: 0 }, 0, () => 0);
    expect(empty).toEqual(lanes);
  }
});
