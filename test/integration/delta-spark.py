"""What Spark makes of the lakes of `support/reader-lake.ts`, as one JSON value."""
import json
from functools import reduce

from pyspark.sql import functions as F
from session import answer, args, spark, work

lake, trimmed, vacuumed, million, optimized, questions = args
asked = json.loads(questions)
SELECT = "/select"


def read(table, **options):
    return spark.read.format("delta").options(**options).load(table)


def totals(table):
    return list(table.agg(F.count(F.lit(1)), F.coalesce(F.sum("count"), F.lit(0))).first())


def counted(table, filters):
    """In one query: each has an overhead of its own."""
    rows = read(table)
    count = F.count(F.lit(1)).alias("n")
    each = [rows.where(w).agg(count).select(F.lit(w).alias("w"), "n") for w in filters]
    return {row["w"]: row["n"] for row in reduce(lambda a, b: a.unionAll(b), each).collect()}


def scanned(where):
    """How many files the plan reads."""
    rows = read(million + SELECT).where(where)
    plan = rows._jdf.queryExecution().optimizedPlan()
    return plan.collectLeaves().head().relation().location().preparedScan().files().size()


def row_texts():
    texts = ["s", *[f"cast({name} as string)" for name in ("b", "i", "l", "d", "d4", "d9", "d18")]]
    rows = read(lake + "/events").selectExpr(
        *texts, "cast(unix_millis(t) as string)", "lower(hex(raw))", "tags", "top"
    )
    return [
        [*row[:10], row["tags"], None if row["top"] is None else [v.asDict() for v in row["top"]]]
        for row in rows.collect()
    ]


def detail():
    row = spark.sql(f"DESCRIBE DETAIL delta.`{lake}/events`").first()
    return {
        "partitionColumns": row["partitionColumns"],
        "protocol": [row["minReaderVersion"], row["minWriterVersion"]],
        "files": row["numFiles"],
    }


def txn():
    delta_log = spark._jvm.org.apache.spark.sql.delta.DeltaLog
    log = delta_log.forTable(spark._jsparkSession, lake + SELECT)
    return log.unsafeVolatileSnapshot().transactions().get("millpond:p:select").get()


def streamed():
    """A reader that follows the log from its beginning, over all compactions."""
    target = work + "/stream"
    source = spark.readStream.format("delta").option("startingVersion", 0)
    query = (
        source.option("maxFilesPerTrigger", 7).load(lake + SELECT)
        .writeStream.format("parquet").option("checkpointLocation", target + "/at")
        .trigger(availableNow=True).start(target + "/rows")
    )
    query.awaitTermination()
    return totals(spark.read.parquet(target + "/rows"))


def failure(work):
    try:
        return f"read {work()}"
    except Exception as error:
        return str(error)[:1000]


found = {
    "schema": json.loads(read(lake + "/events").schema.json())["fields"],
    "detail": detail(),
    "rows": row_texts(),
    "events": counted(lake + "/events", asked["events"]),
    "million": counted(million + SELECT, asked["counts"]),
    "scanned": {where: scanned(where) for where in asked["counts"]},
    "txn": txn(),
    "versions": {v: totals(read(lake + SELECT, versionAsOf=v)) for v in asked["versions"]},
    "trimmed": totals(read(trimmed + SELECT)),
    "streamed": streamed(),
    "vacuumed": totals(read(vacuumed + SELECT)),
    "gone": failure(lambda: totals(read(vacuumed + SELECT, versionAsOf=asked["gone"]))),
    "distinct": read(million + SELECT).agg(F.countDistinct("window_start")).first()[0],
    "dryRun": spark.sql(f"VACUUM delta.`{lake}/select` RETAIN 168 HOURS DRY RUN").count(),
}
spark.sql(f"OPTIMIZE delta.`{optimized}/select`")
spark.conf.set("spark.databricks.delta.stats.skipping", "false")
found["unskipped"] = counted(million + SELECT, asked["counts"])
answer(found)
