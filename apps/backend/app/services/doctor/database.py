"""The database server: what it is, and whether what it has acknowledged outlives a power cut."""

from sqlalchemy import text

from app import schema
from app.connecting import is_direct
from app.db import driver_of
from app.house import House
from app.queue import count_workers
from app.services.doctor.findings import Finding, failed, passed

OLDEST_VERSION = 14
"""Older ones get no corrections any more (PostgreSQL's versioning policy)."""

_JOB_CONNECTIONS = 2
"""What each process keeps for its background jobs, besides its pool."""

_SERVER = text(
    "SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version,"
    " current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby"
)
_DURABILITY = text(
    "SELECT name, setting, source FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
    " AND setting = 'off' ORDER BY name"
)
_LIMITS = text(
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS of_server,"
    " nullif(datconnlimit, -1) AS of_database, nullif(rolconnlimit, -1) AS of_role"
    " FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user"
)


async def check_server(house: House) -> list[Finding]:
    async with house.db.read() as connection:
        server = (await connection.execute(_SERVER)).one()
    whose = ", embedded" if house.settings.is_embedded else ""
    detail = f"PostgreSQL {server.version.split()[0]}, {server.encoding}{whose}"
    if server.is_standby:
        return [failed("database", f"{detail}, a standby: nothing can be written", "point DATABASE_URL at the primary")]
    if server.number < OLDEST_VERSION * 10_000:
        return [failed("database", f"{detail}: too old", f"move to PostgreSQL {OLDEST_VERSION} or later")]
    if server.encoding != "UTF8":
        to_do = "make a new database: CREATE DATABASE tribi ENCODING 'UTF8' TEMPLATE template0; dump this one and restore it there"
        return [failed("database", f"{detail}: names and texts of the whole world need UTF8", to_do)]
    return [passed("database", detail)]


async def check_durability(house: House) -> list[Finding]:
    async with house.db.read() as connection:
        off = list((await connection.execute(_DURABILITY)).all())
    if not off:
        return [passed("database-durability", "fsync, synchronous_commit and full_page_writes are on")]
    names = " and ".join(row.name for row in off)
    detail = f"{names} off: a power cut forgets orders that were sent, and a forgotten order is bought again"
    return [failed("database-durability", detail, "; ".join(_to_switch_on(row.name, row.source) for row in off))]


def _to_switch_on(name: str, source: str) -> str:
    match source:
        case "database":
            return f"ALTER DATABASE … RESET {name}"
        case "user" | "database user":
            return f"ALTER ROLE … RESET {name}"
        case "client" | "session":
            return f"take {name} out of DATABASE_URL"
        case "command line" | "environment variable":
            return f"start PostgreSQL without {name}=off"
        case _:
            return f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"


async def check_migrations(house: House) -> list[Finding]:
    async with house.db.read() as connection:
        revision = await schema.current_revision(connection)
    head = schema.head()
    if revision == head:
        return [passed("database-migrations", f"at {head}, the newest")]
    detail = f"at {revision or 'nothing'}, and this release is made for {head}"
    if revision is not None and revision > head:
        return [failed("database-migrations", detail, "run the newer release of Tribi that has migrated it")]
    return [failed("database-migrations", detail, "tribi migrate")]


async def check_connections(house: House) -> list[Finding]:
    """What all processes may take at once, against what the server gives."""
    per_process = house.settings.database_pool_size + _JOB_CONNECTIONS
    async with house.db.read() as connection:
        limits = (await connection.execute(_LIMITS)).one()
        processes = max(1, await count_workers(connection))
        is_pooled = not await is_direct(driver_of(connection))
    asked = f"{processes} {'process' if processes == 1 else 'processes'} of up to {per_process} connections"
    if is_pooled:
        detail = f"{asked}, behind a pooler, which shares the server's among them"
        return [passed("database-connections", f"{detail} (docs/configuration.md, Behind PgBouncer)")]
    given = min(limit for limit in (limits.of_server, limits.of_database, limits.of_role) if limit is not None)
    if processes * per_process <= given:
        return [passed("database-connections", f"{asked}; the server gives {given}")]
    to_do = "lower DATABASE_POOL_SIZE, raise max_connections (or the database's or the role's CONNECTION LIMIT), or use PgBouncer"
    return [failed("database-connections", f"{asked}, and the server gives only {given}", to_do)]
