/** A history for Kafka sinks: what tests apply, and expect. */
import { Rows } from "../../contract/kafka-rows.js";
import { EVERY_TYPE } from "../../contract/sinks-script.js";

export function history(count: number): Rows {
  const rows = new Rows();
  for (let n = 0; n < count; n++) {
    rows.add(
      Array.from({ length: 20 }, (_, i) => EVERY_TYPE[(n + i) % 4]!),
      n % 3,
    );
  }
  return rows;
}
