"""Setting a store up: its database, its schema, and the migrations of that."""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shop.backends.postgres.connections import Connection
from shop.backends.postgres.names import Names
from shop.backends.postgres.schema import MIGRATIONS
from shop.eventsourcing.errors import StoreFormatError

_ENCODINGS = {"UTF8", "SQL_ASCII"}
"""Those that hold any text: the second one takes all bytes as they are."""


def database_exists(conninfo: str, timeout: float) -> bool:
    """Whether the database that is named is there. Raises psycopg's errors."""
    try:
        psycopg.connect(conninfo, connect_timeout=_seconds(timeout)).close()
    except psycopg.OperationalError as error:
        # Before there is a session, the server's answer has no code.
        if "does not exist" not in str(error) or "database" not in str(error):
            raise
        return False
    return True


def create_database(conninfo: str, timeout: float) -> None:
    """Make the database that is named, unless it is there. Raises psycopg's errors."""
    if database_exists(conninfo, timeout):
        return
    name = conninfo_to_dict(conninfo)["dbname"]
    beside = make_conninfo(conninfo, dbname="postgres")
    with (
        psycopg.connect(beside, autocommit=True, connect_timeout=_seconds(timeout)) as connection,
        # Another process may be doing the same.
        suppress(errors.DuplicateDatabase, errors.UniqueViolation),
    ):
        # Not from template1, the default: it may have another encoding, or be in use.
        connection.execute(
            sql.SQL(
                "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
            ).format(sql.Identifier(str(name)))
        )


def set_up(connection: Connection, names: Names, place: str) -> None:
    """Make what is missing and bring it up to date, one process at a time.

    Raises :class:`StoreFormatError` where the tables are not this program's, or from a newer
    version, and psycopg's errors.
    """
    version = schema_version(connection, names)
    if version == len(MIGRATIONS):
        return
    if version == 0:
        _check_encoding(connection, place)
        _create_schema(connection, names)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (names.lock,))
        version = schema_version(connection, names)
        if version > len(MIGRATIONS):
            raise StoreFormatError(
                f"{place} has schema version {version}, this program knows up to"
                f" {len(MIGRATIONS)}: it was written by a newer one"
            )
        try:
            if version == 0:
                connection.execute(
                    f"CREATE TABLE {names.store} (identity uuid NOT NULL, version integer NOT NULL)"
                )
                connection.execute(f"INSERT INTO {names.store} VALUES (%s, 0)", (uuid4(),))
            for migration in MIGRATIONS[version:]:
                connection.execute(
                    migration.format(
                        schema=names.quoted_schema, prefix=names.prefix, lock=names.lock
                    )
                )
        except (errors.DuplicateTable, errors.DuplicateFunction, errors.DuplicateObject) as error:
            raise StoreFormatError(
                f"{place} has tables of some other program in its schema {names.schema}"
                f" ({str(error).strip()}): name another one by ?schema=… or ?prefix=…"
            ) from error
        connection.execute(f"UPDATE {names.store} SET version = %s", (len(MIGRATIONS),))


def _create_schema(connection: Connection, names: Names) -> None:
    """Make the schema, unless it is there: to make it takes a right, even where it is."""
    there = "SELECT FROM pg_namespace WHERE nspname = %s"
    if connection.execute(there, (names.schema,)).rowcount:
        return
    # So may others: stores that have other prefixes do not wait for each other.
    with suppress(errors.DuplicateSchema, errors.UniqueViolation):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {names.quoted_schema}")


def _check_encoding(connection: Connection, place: str) -> None:
    """Raise :class:`StoreFormatError` where the database has no room for all characters."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in _ENCODINGS:
        raise StoreFormatError(
            f"{place} has the encoding {encoding}, and the shop needs UTF8: name a database that"
            " has it, or one that is not there, which is made so"
        )


def schema_version(connection: Connection, names: Names) -> int:
    """How many migrations the store has seen, 0 where there is none. Raises as :func:`set_up`."""
    # Not by to_regclass(): that may remember a table as missing which has been made meanwhile.
    [(there,)] = connection.execute(
        "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = %s",
        (names.schema, f"{names.prefix}store"),
    )
    if not there:
        return 0
    try:
        [(version,)] = connection.execute(f"SELECT version FROM {names.store}")
    except (errors.UndefinedColumn, ValueError) as error:
        raise StoreFormatError(f"{names.store} is a table of some other program") from error
    return int(version)


def _seconds(timeout: float) -> int:
    """As libpq takes a time-out."""
    return max(1, round(timeout))
