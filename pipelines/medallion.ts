/**
 * From raw to clean: JSON files become bronze, a Kafka topic becomes silver, both Delta tables of
 * the lake. What is refused on the way is in `dead_letters`, each record as it came in `bronze`.
 */
import {
  days,
  double,
  hours,
  int,
  lake,
  minutes,
  oneOf,
  pipeline,
  stream,
  string,
  timestamp,
} from "millpond";

const reading = {
  reading_id: string().check((id) => id.length().gt(0)),
  sensor_id: string().check((id) => id.length().gt(0)),
  site: string(),
  battery: int().check((percent) => percent.between(0, 100)),
  status: oneOf("ok", "low_battery", "fault"),
  event_time: timestamp(),
};

// Files of a folder or an S3 prefix, each once: a reading without its values is refused.
const files = stream("sensor_files", {
  schema: {
    ...reading,
    temperature: double().check((celsius) => celsius.between(-60, 80)),
    humidity: double().check((percent) => percent.between(0, 100)),
  },
  eventTime: "event_time",
  lateness: days(1),
});

// A topic with the same readings: what a sensor sends twice within an hour counts once.
const topic = stream("sensor_data", {
  schema: {
    ...reading,
    temperature: double()
      .nullable()
      .check((celsius) => celsius.between(-60, 80)),
    humidity: double()
      .nullable()
      .check((percent) => percent.between(0, 100)),
  },
  key: "sensor_id",
  eventTime: "event_time",
  lateness: minutes(2),
  dedup: { id: "reading_id", within: hours(1) },
});

export default pipeline(
  "medallion",
  {
    bronze_files: files.rows(),
    silver: topic
      .filter((e) => e.temperature.isNotNull().and(e.humidity.isNotNull(), e.status.ne("fault")))
      .derive((e) => ({
        site: e.site.lower(),
        fahrenheit: e.temperature.mul(18).add(320).round().div(10),
      })),
  },
  { sinks: [lake()] },
);
