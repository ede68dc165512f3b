"""Runs fakesnow as the server that Snowflake's Node driver expects; it patches fakesnow 0.12.1.

What fakesnow lacks for that driver: results as JSON rows, a login that checks the key pair, REMOVE,
errors that are answers (its 500 makes the driver try again for two minutes), and a lock to wait
for where DuckDB refuses at once. Started as `python fakesnow_ext.py <port> <directory of keys>`,
where `<USER>.pem` is a user's public key. `POST /test/fault` makes statements fail, for tests.
"""

import asyncio
import base64
import datetime
import decimal
import gzip
import hashlib
import importlib
import json
import os
import pathlib
import re
import shutil
import sys
import threading
import time

import duckdb
import jwt
import snowflake.connector.errors
import uvicorn
from cryptography.hazmat.primitives import serialization
from fakesnow import copy_into, cursor
from fakesnow.transforms import stage
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

# The package has a function of this name.
server = importlib.import_module("fakesnow.server")

PORT = int(sys.argv[1])
KEYS = pathlib.Path(sys.argv[2])
# Snowflake ends a transaction that others wait for once it is idle for five minutes.
IDLE_SECONDS_MAX = 0.5
LOCK_SECONDS_MAX = 10
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


# Results: JSON rows, as Snowflake sends them to drivers that do not ask for Arrow.

def json_value(value):
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, bytes):
        return value.hex().upper()
    if isinstance(value, datetime.datetime):
        zone = " 1440" if value.tzinfo else ""
        past = value.replace(tzinfo=value.tzinfo or datetime.timezone.utc) - EPOCH
        micros = past // datetime.timedelta(microseconds=1)
        return f"{'-' if micros < 0 else ''}{abs(micros) // 10**6}.{abs(micros) % 10**6:06}000{zone}"
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return str(value)


def json_rows(table, _rowtype):
    return [[json_value(value) for value in row.values()] for row in table.to_pylist()]


PARAMETERS = [
    {"name": "TIMEZONE", "value": "UTC"},
    {"name": "BINARY_OUTPUT_FORMAT", "value": "HEX"},
    {"name": "DATE_OUTPUT_FORMAT", "value": "YYYY-MM-DD"},
    {"name": "TIMESTAMP_TZ_OUTPUT_FORMAT", "value": "YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM"},
    {"name": "TIMESTAMP_LTZ_OUTPUT_FORMAT", "value": "YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM"},
    {"name": "TIMESTAMP_NTZ_OUTPUT_FORMAT", "value": "YYYY-MM-DD HH24:MI:SS.FF3"},
]


class DriverResponse(JSONResponse):
    def render(self, content):
        data = content.get("data")
        if data and data.get("queryResultFormat") == "arrow":
            rows = data.pop("rowsetBase64")
            data["rowset"] = json.loads(base64.b64decode(rows)) if rows else []
            data["queryResultFormat"] = "json"
        if data and "rowset" in data:
            data["returned"] = len(data["rowset"])
            data["parameters"] = PARAMETERS
        if data is None and content.get("success") is False:
            content["data"] = {"errorCode": content["code"], "sqlState": "XX000"}
        return super().render(content)


class AnsweredError(server.ServerError):
    """A statement that fakesnow cannot run is refused, instead of taken for an outage."""

    def __init__(self, status_code, code, message):
        super().__init__(200 if status_code == 500 else status_code, code, message)


server.to_sf = json_rows
server.to_ipc = lambda rows: json.dumps(rows).encode()
server.JSONResponse = DriverResponse
server.ServerError = AnsweredError
# To a directory here; else the driver is told to upload to a cloud of which it wants a certificate.
server.gcs_stage_info = lambda _request, _expression, data: data["stageInfo"]


# Settings of a session that change no result there.
server.shared_fs.nop_regexes = [r"ALTER SESSION SET "]


# Columns of a file are matched with those of a table as they are written.

def table_columns(table, connection, database, schema):
    described = copy_into._describe_table(table, connection, database, schema)
    return [name for name, _ in described]


def source_urls(source, files):
    return [f"{source}{file}" for file in files]


copy_into._get_table_columns = table_columns
copy_into._source_urls = source_urls


# Locks: who meets another's change waits, and a change that was left alone is undone.

last_used = {}
in_transaction = set()
sessions_lock = threading.Lock()
execute = cursor.FakeSnowflakeCursor.execute


def execute_waiting(self, command, *args, **kwargs):
    connection = self._conn
    verb = command.split(None, 1)[0].upper()
    last_used[connection] = time.monotonic()
    if verb == "BEGIN":
        in_transaction.add(connection)
        connection.statements = 0
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    while True:
        try:
            result = execute(self, command, *args, **kwargs)
            break
        except duckdb.TransactionException as error:
            first = connection in in_transaction and connection.statements == 1
            if "onflict" not in str(error) or not (first or connection not in in_transaction):
                raise
            if time.monotonic() > deadline:
                raise snowflake.connector.errors.ProgrammingError(
                    msg="Statement was aborted: the lock was not released", errno=625,
                    sqlstate="57014",
                ) from error
            if first:
                connection._duck_conn.rollback()
            end_idle_transactions()
            time.sleep(0.02)
            if first:
                connection._duck_conn.begin()
        except Exception:
            raise
    connection.statements = getattr(connection, "statements", 0) + 1
    if verb in ("COMMIT", "ROLLBACK"):
        in_transaction.discard(connection)
    last_used[connection] = time.monotonic()
    return result


def end_idle_transactions():
    with sessions_lock:
        for connection in list(in_transaction):
            if time.monotonic() - last_used[connection] > IDLE_SECONDS_MAX:
                in_transaction.discard(connection)
                connection._duck_conn.rollback()


cursor.FakeSnowflakeCursor.execute = execute_waiting


# Login with a key pair, as Snowflake checks it.

def body_of(request, body):
    compressed = request.headers.get("Content-Encoding") == "gzip"
    return json.loads(gzip.decompress(body) if compressed else body)


def why_refused(data):
    if data.get("AUTHENTICATOR") != "SNOWFLAKE_JWT":
        return "only key pairs are taken here"
    user = data["LOGIN_NAME"].upper()
    file = KEYS / f"{user}.pem"
    if not file.is_file():
        return "no such user"
    key = serialization.load_pem_public_key(file.read_bytes())
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    fingerprint = base64.b64encode(hashlib.sha256(der).digest()).decode()
    subject = f"{data['ACCOUNT_NAME'].upper()}.{user}"
    try:
        jwt.decode(
            data["TOKEN"], key, algorithms=["RS256"], issuer=f"{subject}.SHA256:{fingerprint}",
            options={"require": ["iss", "sub", "exp", "iat"], "verify_iat": False},
        )
    except jwt.InvalidTokenError as error:
        return str(error)
    return None


async def login(request):
    refused = why_refused(body_of(request, await request.body())["data"])
    if refused is None:
        return await server.login_request(request)
    print(f"refused: {refused}", flush=True)
    return JSONResponse(
        {"data": {}, "code": "390144", "message": "JWT token is invalid.", "success": False}
    )


# Statements: those of tests' faults, those that fakesnow lacks, and the rest.

fault = {}
log = []


async def set_fault(request):
    fault.clear()
    fault.update(json.loads(await request.body()))
    log.clear()
    return Response()


async def show_log(_request):
    return JSONResponse(log)


def takes_fault(sql):
    """Whether this statement is the one to fail: the n-th of those that match."""
    if "match" not in fault or fault.get("done") or not re.search(fault["match"], sql):
        return False
    fault["skip"] = fault.get("skip", 0) - 1
    fault["done"] = fault["skip"] < 0
    return fault["done"]


def failure(message):
    data = {"errorCode": "000603", "sqlState": "XX000"}
    return JSONResponse({"data": data, "code": "000603", "message": message, "success": False})


async def query(request):
    sql = body_of(request, await request.body())["sqlText"]
    log.append(sql)
    fails = takes_fault(sql)
    if fails and fault["when"] == "down":
        fault["done"] = False
        return Response(status_code=503)
    if fails and fault["when"] == "before":
        return failure("the test said so, before the statement ran")
    removed = re.fullmatch(r"\s*REMOVE\s+@(\S+?)\s*", sql, re.IGNORECASE)
    answer = remove(request, removed[1]) if removed else await server.query_request(request)
    if fails:
        return failure("the test said so, after the statement ran")
    return answer


def remove(request, target):
    connection = server.to_conn(server.to_token(request))
    name, _, path = target.replace('"', "").partition("/")
    parts = stage.parts_from_var(name, connection.database, connection.schema)
    folder = stage.internal_dir(".".join(parts), path)
    shutil.rmtree(folder.removeprefix("file://"), ignore_errors=True)
    rowtype = {"name": "name", "type": "text", "nullable": True, "scale": None, "precision": None}
    data = {"rowtype": [rowtype], "rowset": [], "total": 0, "returned": 0,
            "queryResultFormat": "json", "queryId": "remove", "statementTypeId": 0x7000}
    return JSONResponse({"data": data, "success": True})


def end_with_parent():
    """The parent never writes: its end is the end of stdin."""
    sys.stdin.buffer.read()
    os._exit(0)


OWN = {"/session/v1/login-request": login, "/queries/v1/query-request": query}
routes = [
    Route(route.path, OWN.get(route.path, route.endpoint), methods=route.methods)
    for route in server.routes
] + [
    Route("/test/fault", set_fault, methods=["POST"]),
    Route("/test/fault", lambda _: JSONResponse(fault.get("done", False)), methods=["GET"]),
    Route("/test/log", show_log, methods=["GET"]),
    Route("/test/health", lambda _: Response(), methods=["GET"]),
    Route("/telemetry/send", lambda _: JSONResponse({"success": True}), methods=["POST"]),
]

threading.Thread(target=end_with_parent, daemon=True).start()
config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=PORT, log_level="warning")
asyncio.run(uvicorn.Server(config).serve())
