"""The checks together: none can hang or break the others, and nothing secret comes out."""

import asyncio
import socket
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from app.errors import ConfigurationError
from app.services.doctor.examine import CHECKS, Check, examine, mistakes
from app.services.doctor.findings import Finding, Result, passed
from app.settings import Settings
from tests.conftest import other_database
from tests.services.doctor.conftest import results, settings_on, the_failure

ALWAYS = [
    "provider",
    "live-orders",
    "secret-files",
    "provider-tls",
    "nothing-repeats-a-post",
    "public-url",
    "trusted-proxies",
    "mail-server",
    "database",
    "database-durability",
    "database-migrations",
    "database-connections",
    "clock",
    "held-mode",
    "intent-journal",
    "catalogue",
    "service-keys",
    "jobs",
    "jobs-failed",
    "unknown-outcomes",
    "unfulfilled-orders",
    "mails-refused",
    "webhook-addresses",
    "provider-paused",
    "spend-cap",
    "first-live-esim",
    "provider-webhooks",
    "provider-news",
    "unknown-outcome",
    "order-numbers",
    "backups",
]


async def fine(_: object) -> list[Finding]:
    return [passed("fine", "all is well")]


async def hanging(_: object) -> list[Finding]:
    await asyncio.Event().wait()
    return []


async def breaking(_: object) -> list[Finding]:
    raise ZeroDivisionError("by hunter2-hunter2 for ana@example.com")


async def test_a_new_installation_has_no_failures_and_every_line(settings: Settings) -> None:
    found = await examine(settings)
    assert [line.name for line in found if not line.name.startswith("question-")] == ALWAYS
    assert Result.FAILED not in {line.result for line in found}


async def test_each_line_that_has_not_passed_says_what_to_do(settings: Settings) -> None:
    for line in await examine(settings):
        assert (line.to_do is None) == (line.result is Result.PASSED), line
        assert line.detail


async def test_a_check_that_hangs_is_a_failed_line_and_holds_up_no_other(settings: Settings) -> None:
    found = await examine(settings, [Check("hanging", hanging, limit_s=0.05), Check("fine", fine)])
    assert results(found) == {"hanging": "failed", "fine": "passed"}
    assert the_failure(found).detail == "no answer within 0.05 seconds"


async def test_checks_are_made_at_the_same_time(settings: Settings) -> None:
    arrived = asyncio.Event()

    async def waits(_: object) -> list[Finding]:
        await arrived.wait()
        return await fine(_)

    async def arrives(_: object) -> list[Finding]:
        arrived.set()
        return []

    assert results(await examine(settings, [Check("waits", waits), Check("arrives", arrives)])) == {"fine": "passed"}


async def test_a_check_that_breaks_is_a_failed_line_without_what_is_secret(settings: Settings) -> None:
    secret = settings.model_copy(update={"connected_you_api_key": SecretStr("hunter2-hunter2")})
    found = await examine(secret, [Check("breaking", of_house=breaking), Check("fine", fine)])
    assert results(found) == {"breaking": "failed", "fine": "passed"}
    assert the_failure(found).detail == "ZeroDivisionError: by [redacted] for [email]"


async def test_a_database_that_is_away_is_one_failure(tmp_path: Path) -> None:
    found = await examine(settings_on(f"postgresql:///tribi?host={tmp_path}", tmp_path))
    failure = the_failure(found)
    assert (failure.name, failure.detail.startswith("database: OperationalError: ")) == ("database", True)
    not_looked_at = {line.name for line in found if line.detail == "not looked at: the database can't be used"}
    assert not_looked_at == {check.name for check in CHECKS if check.of_house is not None}


async def test_a_database_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://tribi@127.0.0.1:{silent.getsockname()[1]}/tribi?connect_timeout=2"
        assert the_failure(await examine(settings_on(url, tmp_path), [])).name == "database"


async def test_a_database_that_was_never_migrated_says_so(server_url: str, direct_url: str, tmp_path: Path) -> None:
    name = f"{conninfo_to_dict(direct_url)['dbname']}_new"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        failure = the_failure(await examine(settings_on(other_database(server_url, name), tmp_path), []))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    assert "run `tribi migrate`" in failure.detail


async def test_a_database_that_cannot_be_understood_is_a_line(server_url: str, direct_url: str, tmp_path: Path) -> None:
    name = f"{conninfo_to_dict(direct_url)['dbname']}_ascii"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0".encode())
        failure = the_failure(await examine(settings_on(other_database(server_url, name), tmp_path), []))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    assert "with UTF8" in str(failure.to_do)


async def test_another_encryption_key_than_the_databases_fails(settings: Settings) -> None:
    await examine(settings, [])
    other = settings.model_copy(update={"encryption_key": SecretStr("YW5vdGhlciBrZXksIG9mIHRoaXJ0eS10d28gYnl0ZXM=")})
    failure = the_failure(await examine(other, []))
    assert (failure.name, "sealed with another key" in failure.detail) == ("installation", True)


def test_settings_that_cannot_be_read_are_the_failed_lines() -> None:
    found = mistakes(ConfigurationError("ESIM_PROVIDER: must be one\nSMTP_URL: must be a URL"))
    assert [(line.name, line.result.value, line.detail) for line in found] == [
        ("settings", "failed", "ESIM_PROVIDER: must be one"),
        ("settings", "failed", "SMTP_URL: must be a URL"),
    ]
