/**
 * DuckDB's API, as `require` loads it. An `import` has Node search the API's 187 CommonJS files for
 * the names that they export before it runs them: 0.15 CPU-seconds of every command.
 */
import api = require("@duckdb/node-api");

export import BIGINT = api.BIGINT;
export import BLOB = api.BLOB;
export import BOOLEAN = api.BOOLEAN;
export import blobValue = api.blobValue;
export import DECIMAL = api.DECIMAL;
export import DOUBLE = api.DOUBLE;
export import DuckDBArrayValue = api.DuckDBArrayValue;
export import DuckDBBlobValue = api.DuckDBBlobValue;
export import DuckDBDataChunk = api.DuckDBDataChunk;
export import DuckDBDecimalValue = api.DuckDBDecimalValue;
export import DuckDBInstance = api.DuckDBInstance;
export import DuckDBListValue = api.DuckDBListValue;
export import DuckDBMapValue = api.DuckDBMapValue;
export import DuckDBStructValue = api.DuckDBStructValue;
export import DuckDBTimestampTZValue = api.DuckDBTimestampTZValue;
export import DuckDBTimestampValue = api.DuckDBTimestampValue;
export import DuckDBTypeId = api.DuckDBTypeId;
export import INTEGER = api.INTEGER;
export import LIST = api.LIST;
export import listValue = api.listValue;
export import STRUCT = api.STRUCT;
export import StatementType = api.StatementType;
export import structValue = api.structValue;
export import TIMESTAMPTZ = api.TIMESTAMPTZ;
export import VARCHAR = api.VARCHAR;
