/**
 * People on a shop's pages: visits by users of very different zeal, on pages of very different
 * fame. Two streams show them: `activity` without and `clickstream` with the visit's own id.
 */
import { moneyText, type World, type WorldOptions } from "./model.js";
import { partitionOf, type Random, uuid, Zipf } from "./random.js";

const USERS = 50_000;
const PAGES = 400;
/** A visitor does something about every so many seconds. */
const ACTION_EVERY_S = 20;
const VISITS_MIN = 20;
const VISITS_MAX = 50_000;
/** Chance that an action is a visit's last: visits have about twelve. */
const LEAVE = 1 / 12;

const OS = ["ios", "android", "windows", "macos", "linux"] as const;
const BROWSERS = ["safari", "chrome", "firefox", "edge"] as const;
const REFERRERS = ["https://search.example/", "https://news.example/", "https://mail.example/"];
const SECTIONS = ["home", "search", "product", "category", "help", "blog"] as const;

interface Visit {
  user: string;
  session: string;
  partition: number;
  page: string;
  referrer: string;
  os: string;
  browser: string;
  views: number;
}

export function visitWorld(kind: "activity" | "clickstream", options: WorldOptions): World {
  const { random, partitions, ratePerSecond } = options;
  const users = new Zipf(USERS, 1.05);
  const pages = new Zipf(PAGES, 1.1);
  const names = Array.from({ length: PAGES }, (_, i) => pageName(i));
  const wanted = Math.round(ratePerSecond * ACTION_EVERY_S);
  const size = Math.min(VISITS_MAX, Math.max(VISITS_MIN, wanted));
  const arrive = (): Visit => newVisit(random, users.pick(random), partitions);
  const visits = Array.from({ length: size }, arrive);
  const write = kind === "activity" ? activityHead : clickHead;
  return {
    next(index) {
      const slot = random.below(size);
      const visit = visits[slot]!;
      const type = action(random, visit);
      if (type === "page_view") turnTo(visit, names[pages.pick(random)]!);
      const head = write(random, index, visit, type);
      const { user: key, partition } = visit;
      if (random.unit() < LEAVE) visits[slot] = arrive();
      return { key, partition, head };
    },
  };
}

const pageName = (rank: number): string =>
  rank === 0 ? "/home" : `/${SECTIONS[rank % SECTIONS.length]}/${rank}`;

function newVisit(random: Random, rank: number, partitions: number): Visit {
  const user = `u${String(rank).padStart(6, "0")}`;
  return {
    user,
    session: `s${random.bits().toString(36)}${random.bits().toString(36)}`,
    partition: partitionOf(user, partitions),
    page: "",
    referrer: random.unit() < 0.4 ? `"${random.pick(REFERRERS)}"` : "null",
    os: random.pick(OS),
    browser: random.pick(BROWSERS),
    views: 0,
  };
}

/** Nobody clicks before the first page, and only who has looked around buys. */
function action(random: Random, visit: Visit): "page_view" | "click" | "purchase" {
  if (visit.views === 0) return "page_view";
  const dice = random.unit();
  if (dice < 0.06 && visit.views >= 2) return "purchase";
  return dice < 0.34 ? "click" : "page_view";
}

function turnTo(visit: Visit, page: string): void {
  if (visit.views > 0) visit.referrer = `"${visit.page}"`;
  visit.page = page;
  visit.views++;
}

type Head = (random: Random, index: number, visit: Visit, type: string) => string;

const activityHead: Head = (random, index, visit, type) =>
  `{"event_id":"${uuid(random, index)}","user_id":"${visit.user}","event_type":"${type}",` +
  `"page":"${visit.page}","amount":${amount(random, type)},` +
  `"device":{"os":"${visit.os}"},"event_time":"`;

const clickHead: Head = (random, index, visit, type) =>
  `{"event_id":"${uuid(random, index)}","user_id":"${visit.user}",` +
  `"session_id":"${visit.session}","event_type":"${type}","page":"${visit.page}",` +
  `"referrer":${visit.referrer},"device":{"os":"${visit.os}","browser":"${visit.browser}"},` +
  `"amount":${amount(random, type)},"event_time":"`;

/** Many small baskets and few large ones. */
function amount(random: Random, type: string): string {
  if (type !== "purchase") return "null";
  return moneyText(Math.floor(500 + 4000 * -Math.log(1 - random.unit())));
}
