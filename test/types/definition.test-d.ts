/** Definitions that must not type-check; compiled by `tsc --noEmit`, never run. */
import {
  avg,
  count,
  double,
  int,
  list,
  minutes,
  oneOf,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
} from "../../lib/index.js";

const s = stream("s", {
  schema: { kind: oneOf("a", "b"), n: int(), x: double(), tags: list(string()), at: timestamp() },
  eventTime: "at",
  lateness: 0,
});
const w = s.window(tumbling(minutes(1)));

w.aggregate({ a: sum("n"), b: avg((e) => e.n.add(e.x)), c: count({ where: (e) => e.n.gt(1) }) });
// @ts-expect-error an unknown column
w.aggregate({ a: sum("nn") });
// @ts-expect-error a sum over a string
w.aggregate({ a: sum("kind") });
// @ts-expect-error a sum over a string expression
w.aggregate({ a: sum((e) => e.kind) });
// @ts-expect-error an unknown column in an aggregate's filter
w.aggregate({ a: count({ where: (e) => e.nope.gt(1) }) });
// @ts-expect-error an unknown column in a filter
s.filter((e) => e.nope.eq(1));
// @ts-expect-error a value that oneOf does not allow
s.filter((e) => e.kind.eq("c"));
// @ts-expect-error a number is compared with a string
s.filter((e) => e.n.eq("1"));
// @ts-expect-error a filter that is no boolean
s.filter((e) => e.n);
// @ts-expect-error a group by a list
s.groupBy("tags");
// @ts-expect-error a group by an unknown column
s.groupBy("nope");
// @ts-expect-error a column that select dropped
s.select("n").filter((e) => e.x.gt(1));
// @ts-expect-error an event time that is no timestamp
stream("t", { schema: { n: int() }, eventTime: "n", lateness: 0 });
