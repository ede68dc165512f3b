"""What deltalake makes of the lakes of `support/reader-lake.ts`, as one JSON value."""
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import QueryBuilder

asked = json.loads(args[0])


def table(lake, name="select", **options):
    return DeltaTable(os.path.join(table_dir, lake, name), **options)


def totals(table):
    counts = table.to_pyarrow_table(columns=["count"])["count"]
    return [len(counts), pc.sum(counts).as_py() or 0]


def counted(table, filters):
    query = QueryBuilder().register("rows", table)
    select = "SELECT count(*) AS n FROM rows WHERE "
    answers = {where: pa.table(query.execute(select + where).read_all()) for where in filters}
    return {where: answer["n"][0].as_py() for where, answer in answers.items()}


def failure(work):
    try:
        return f"read {work()}"
    except Exception as error:
        return str(error)[:1000]


def texts(rows, name, text):
    return [None if value is None else text(value) for value in rows[name].to_pylist()]


def row_texts(rows):
    micros = rows["t"].cast(pa.int64()).to_pylist()
    as_they_are = {name: texts(rows, name, lambda value: value) for name in ("tags", "top")}
    return as_they_are | {
        "s": texts(rows, "s", str),
        "l": texts(rows, "l", str),
        "d": texts(rows, "d", float),
        "d4": texts(rows, "d4", str),
        "d18": texts(rows, "d18", lambda value: format(value, "f")),
        "raw": texts(rows, "raw", bytes.hex),
        "t": [None if value is None else value // 1000 for value in micros],
    }


events = table("lake", "events")
big = table("million")
protocol = events.protocol()
one_count = ds.field("count") == 777777
print(json.dumps({
    "schema": json.loads(events.schema().to_json())["fields"],
    "partitions": events.metadata().partition_columns,
    "protocol": [protocol.min_reader_version, protocol.min_writer_version],
    "rows": row_texts(events.to_pyarrow_table()),
    "events": counted(events, asked["events"]),
    "million": counted(big, asked["counts"]),
    "fragments": len(list(big.to_pyarrow_dataset().get_fragments(filter=one_count))),
    "txn": table("lake").transaction_version("millpond:p:select"),
    "versions": [totals(table("lake", version=v)) for v in range(asked["last"] + 1)],
    "trimmed": totals(table("trimmed")),
    "vacuumed": totals(table("vacuumed")),
    "gone": failure(lambda: totals(table("vacuumed", version=asked["gone"]))),
    "distinct": pc.count_distinct(big.to_pyarrow_table()["window_start"]).as_py(),
    "dryRun": table("lake").vacuum(retention_hours=168, dry_run=True),
    "operations": sorted({entry["operation"] for entry in table("lake").history()}),
}))
