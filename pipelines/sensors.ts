// Climate sensors: clean readings with their place, five-minute climate, alarms, outages.
// docs/examples/sensors.md runs it.
import {
  avg,
  count,
  countDistinct,
  double,
  int,
  max,
  min,
  minutes,
  oneOf,
  pipeline,
  quantile,
  reference,
  session,
  stream,
  string,
  timestamp,
  tumbling,
} from "millpond";

const readings = stream("readings", {
  schema: {
    reading_id: string(),
    sensor_id: string(),
    site: string(),
    temperature: double()
      .nullable()
      .check((celsius) => celsius.between(-60, 80)),
    humidity: double()
      .nullable()
      .check((percent) => percent.between(0, 100)),
    battery: int().check((percent) => percent.between(0, 100)),
    status: oneOf("ok", "low_battery", "fault"),
    model: string().at("device.model"),
    event_time: timestamp(),
  },
  key: "sensor_id",
  eventTime: "event_time",
  lateness: minutes(2),
  dedup: "reading_id",
});

// Where each sensor hangs, and how warm it may be there.
const sensors = reference("sensors", {
  file: "../data/sensors/sensors.csv",
  schema: { sensor_id: string(), building: string(), room: string(), celsius_max: double() },
});

const placed = readings.enrich(sensors, {
  on: "sensor_id",
  select: ["building", "room", "celsius_max"],
});

export default pipeline("sensors", {
  // A row per reading, late ones too; duplicates are gone.
  clean_readings: placed
    .filter((e) => e.status.ne("fault").and(e.temperature.isNotNull()))
    .select(
      ...(["reading_id", "sensor_id", "site", "building", "room"] as const),
      ...(["temperature", "humidity", "battery", "event_time"] as const),
    ),

  climate_5m: readings
    .filter((e) => e.status.ne("fault"))
    .groupBy("site")
    .window(tumbling(minutes(5)))
    .aggregate({
      readings: count(),
      sensors: countDistinct("sensor_id"),
      missing: count({ where: (e) => e.temperature.isNull() }),
      mean: avg("temperature"),
      p95: quantile("temperature", 0.95),
      coldest: min("temperature"),
      warmest: max("temperature"),
    }),

  too_warm_1m: placed
    .filter((e) => e.temperature.gt(e.celsius_max))
    .groupBy("building", "room")
    .window(tumbling(minutes(1)))
    .aggregate({ readings: count(), warmest: max("temperature") }),

  // Faults less than a minute apart are one outage.
  outages: readings
    .filter((e) => e.status.eq("fault"))
    .groupBy("sensor_id")
    .window(session(minutes(1)))
    .aggregate({ faults: count() }),
});
