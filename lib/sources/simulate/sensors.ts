/** Climate sensors at eight sites: daily curves, noise, gaps, batteries that run down, faults. */
import type { SimulatedEvent, World, WorldOptions } from "./model.js";
import { partitionOf, type Random, uuid } from "./random.js";

const DAY_MS = 86_400_000;
/** A sensor reports about every ten seconds, with no fewer and no more sensors than these. */
const REPORT_EVERY_S = 10;
const SENSORS_MIN = 16;
const SENSORS_MAX = 10_000;
const BATTERY_LASTS_MS = 90 * DAY_MS;

const SITES = [
  { name: "hamburg", celsius: 10, swing: 5 },
  { name: "lisbon", celsius: 18, swing: 7 },
  { name: "nairobi", celsius: 20, swing: 8 },
  { name: "oslo", celsius: 5, swing: 4 },
  { name: "phoenix", celsius: 28, swing: 11 },
  { name: "quito", celsius: 15, swing: 7 },
  { name: "sapporo", celsius: 8, swing: 5 },
  { name: "tromso", celsius: 1, swing: 3 },
] as const;
const MODELS = ["TH-100", "TH-200", "CX-9"] as const;

interface Sensor {
  readonly id: string;
  readonly partition: number;
  readonly site: (typeof SITES)[number];
  readonly offset: number;
  readonly batteryPhaseMs: number;
  readonly model: string;
}

export function sensorWorld({ random, partitions, ratePerSecond }: WorldOptions): World {
  const wanted = Math.round(ratePerSecond * REPORT_EVERY_S);
  const count = Math.min(SENSORS_MAX, Math.max(SENSORS_MIN, wanted));
  const sensors = random.shuffle(
    Array.from({ length: count }, (_, i) => sensorAt(i, random, partitions)),
  );
  return {
    next: (index, timeMs) => reading(random, index, timeMs, sensors[index % count]!),
  };
}

function sensorAt(index: number, random: Random, partitions: number): Sensor {
  const site = SITES[index % SITES.length]!;
  const id = `${site.name}-${String(index).padStart(5, "0")}`;
  return {
    id,
    site,
    partition: partitionOf(id, partitions),
    offset: random.unit() * 3 - 1.5,
    batteryPhaseMs: random.below(BATTERY_LASTS_MS),
    model: random.pick(MODELS),
  };
}

function reading(random: Random, index: number, timeMs: number, sensor: Sensor): SimulatedEvent {
  const { site } = sensor;
  // Coldest at about 03:00 and warmest at about 15:00 UTC.
  const daily = Math.sin(((timeMs % DAY_MS) / DAY_MS - 0.375) * 2 * Math.PI);
  const celsius = site.celsius + sensor.offset + site.swing * daily + random.unit() - 0.5;
  const humidity = Math.min(100, Math.max(5, 62 - 2.2 * site.swing * daily + random.unit() * 8));
  const used = ((timeMs + sensor.batteryPhaseMs) % BATTERY_LASTS_MS) / BATTERY_LASTS_MS;
  const battery = Math.round((1 - used) * 100);
  const dice = random.unit();
  const status = dice < 0.003 ? "fault" : battery < 10 ? "low_battery" : "ok";
  const temperature = dice < 0.012 ? "null" : tenths(celsius);
  const damp = dice > 0.992 ? "null" : tenths(humidity);
  return {
    key: sensor.id,
    partition: sensor.partition,
    head:
      `{"reading_id":"${uuid(random, index)}","sensor_id":"${sensor.id}","site":"${site.name}",` +
      `"temperature":${temperature},"humidity":${damp},"battery":${battery},` +
      `"status":"${status}","device":{"model":"${sensor.model}","firmware":"2.4.1"},"event_time":"`,
  };
}

const tenths = (value: number): string => String(Math.round(value * 10) / 10);
