"""The command as a whole: its help, its speed, and how it fails."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer
from typer.testing import CliRunner

from app import cli, schema
from app.errors import ConfigurationError, DatabaseUnavailable
from tests.cli.commands import BACKEND, TRIBI, environment, tribi

COMMANDS = [
    "backup",
    "catalogue check",
    "catalogue export",
    "catalogue import",
    "doctor",
    "esims link",
    "esims list",
    "esims replay",
    "esims resend",
    "esims resolve",
    "esims show",
    "keys create",
    "keys list",
    "keys revoke",
    "migrate",
    "providers event",
    "providers list",
    "providers news",
    "providers pause",
    "providers resume",
    "recover",
    "restore",
    "sandbox",
    "secrets list",
    "secrets rotate",
    "serve",
    "travellers sign-out",
    "webhooks add",
    "webhooks deliveries",
    "webhooks disable",
    "webhooks enable",
    "webhooks list",
    "webhooks redeliver",
    "webhooks remove",
    "webhooks rotate-secret",
    "webhooks test",
    "worker",
]

HELP_S = 0.4
"""How long `tribi --help` may take on a machine that does nothing else."""

SLOW_MACHINE = 4


def commands(of: typer.Typer = cli.app) -> Iterator[str]:
    for command in of.registered_commands:
        assert command.callback
        yield command.name or command.callback.__name__
    for group in of.registered_groups:
        assert group.typer_instance
        yield from (f"{group.name} {name}" for name in commands(group.typer_instance))


def test_the_commands_are_the_designs() -> None:
    assert sorted(commands()) == COMMANDS


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(command: str) -> None:
    done = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output
    assert done.output.count("\n") > 5


def test_help_comes_at_once() -> None:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([*TRIBI, "--help"], env=environment("postgresql://h/d"), capture_output=True, check=True)
        took.append(time.perf_counter() - began)
    assert min(took) < HELP_S * SLOW_MACHINE


def test_help_loads_neither_database_nor_web_framework() -> None:
    program = """
import sys
from app.cli import main
sys.argv = ["tribi", "--help"]
try:
    main()
except SystemExit as ended:
    print("loaded:", sorted({"sqlalchemy", "fastapi", "aiohttp", "pydantic", "psycopg", "alembic"} & set(sys.modules)), ended.code)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment("postgresql://h/d"), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: [] 0"


def test_migrate_brings_the_database_up_to_date(database_url: str) -> None:
    schema.migrate(database_url, "base")
    done = tribi(database_url, "migrate")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"The database is at revision {schema.head()}.\n", "")
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(schema.head(),)]


def test_a_database_that_is_away_is_told_in_one_line(tmp_path: Path) -> None:
    done = tribi(f"postgresql:///tribi?host={tmp_path}", "migrate")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("tribi: database: OperationalError: ")


def test_all_mistakes_in_the_settings_are_told_a_line_each(database_url: str) -> None:
    done = subprocess.run(
        [*TRIBI, "keys", "list"],
        env=environment(database_url, ESIM_PROVIDER="NOBODY", ENCRYPTION_KEY="hunter2"),
        cwd=BACKEND,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["ESIM_PROVIDER", "ENCRYPTION_KEY"]
    assert "hunter2" not in done.stderr


def run_into(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit status of a command that runs into an error."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigurationError("first\nsecond"), "tribi: first\ntribi: second\n"),
        (DatabaseUnavailable("it is away"), "tribi: it is away\n"),
        (ValueError("no such thing"), "tribi: no such thing\n"),
        (ValueError(), "tribi: ValueError\n"),
    ],
)
def test_an_expected_failure_is_its_own_words_and_status_1(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_into(error, monkeypatch) == 1
    assert capsys.readouterr() == ("", said)


def test_an_unexpected_failure_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_into(ZeroDivisionError("by\nnought"), monkeypatch) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tribi: this is a bug, please report it ")
    assert line.endswith(": ZeroDivisionError: by")


def test_who_asks_for_the_place_of_an_unexpected_failure_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    with pytest.raises(ZeroDivisionError):
        run_into(ZeroDivisionError(), monkeypatch)


def test_a_reader_who_has_seen_enough_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_into(BrokenPipeError(), monkeypatch) == 0


def test_the_encryption_key_is_made_for_the_embedded_database_only(database_url: str, tmp_path: Path) -> None:
    settings = environment(database_url, TRIBI_DATA_DIR=str(tmp_path / "data"))
    del settings["ENCRYPTION_KEY"]
    done = subprocess.run(
        [*TRIBI, "keys", "list"], env=settings, cwd=BACKEND, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "tribi: ENCRYPTION_KEY: required with DATABASE_URL; `openssl rand -base64 32` makes one"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "tribi: No such command 'nonsense'. (see `tribi --help`)"),
        (["keys", "create"], "tribi: Missing argument 'name'. (see `tribi keys create --help`)"),
        (["esims", "show", "0"], "tribi: Invalid value for 'ID': "),
    ],
)
def test_a_command_line_that_is_not_understood_is_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tribi", *words])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert ending.value.code == 2
