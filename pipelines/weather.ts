// Hourly readings of the weather stations at New York's airports, with missing values.
import {
  avg,
  count,
  double,
  hours,
  int,
  max,
  min,
  oneOf,
  pipeline,
  session,
  stream,
  sum,
  timestamp,
  tumbling,
} from "millpond";

const weather = stream("weather", {
  schema: {
    origin: oneOf("EWR", "JFK", "LGA"),
    event_time: timestamp(),
    temp: double()
      .nullable()
      .check((fahrenheit) => fahrenheit.between(-60, 130)),
    humid: double()
      .nullable()
      .check((percent) => percent.between(0, 100)),
    wind_dir: int().nullable(),
    wind_speed: double().nullable(),
    wind_gust: double().nullable(),
    precip: double()
      .nullable()
      .check((inches) => inches.gte(0)),
    pressure: double().nullable(),
    visib: double().nullable(),
  },
  key: "origin",
  eventTime: "event_time",
  lateness: hours(2),
});

export default pipeline("weather", {
  weather_daily: weather
    .groupBy("origin")
    .window(tumbling(hours(24)))
    .aggregate({
      readings: count(),
      temp_min: min("temp"),
      temp_avg: avg("temp"),
      temp_max: max("temp"),
      rain: sum("precip"),
      gusts_missing: count({ where: (reading) => reading.wind_gust.isNull() }),
    }),

  rain_spells: weather
    .filter((reading) => reading.precip.gt(0))
    .groupBy("origin")
    .window(session(hours(2)))
    .aggregate({ wet_hours: count(), rain: sum("precip"), wind_max: max("wind_speed") }),

  weather_hourly: weather.select("origin", "event_time", "temp", "wind_speed", "precip", "visib"),
});
