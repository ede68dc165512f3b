"""What `spark.ts` starts programs with: a Spark session with Delta Lake, arguments, an answer."""
import json
import os
import sys

from pyspark.sql import SparkSession

work, jars, *args = sys.argv[1:]
_jars = [os.path.join(jars, name) for name in sorted(os.listdir(jars)) if name.endswith(".jar")]
_settings = {
    "spark.jars": ",".join(_jars),
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.local.dir": work,
    "spark.sql.warehouse.dir": work,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    # Else a VACUUM lists files in ten thousand tasks.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",
}
_builder = SparkSession.builder.master("local[1]")
for _name, _value in _settings.items():
    _builder = _builder.config(_name, _value)
spark = _builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")


def answer(value):
    print("answer: " + json.dumps(value))
