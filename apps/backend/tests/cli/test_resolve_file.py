"""`tribi esims resolve --csv FILE`, as somebody types it."""

import json
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from app import cli
from app.house import House
from app.services.esim_providers import get_esim_provider
from app.services.esims.intent import Intent, declare_intent
from app.services.esims.recover import sweep
from tests.builders import an_order
from tests.cli.commands import tribi

CODE = "LPA:1$smdp.example.com$K2-CANARY"
HEADER = "esim_id,outcome,activation_code,iccid,reason\n"


async def some_unknown(house: House, count: int) -> list[int]:
    """eSIMs whose processes died during the call."""
    provider = get_esim_provider(house.settings)
    esims = []
    for order_id in [await an_order(house.db) for _ in range(count)]:
        async with house.db.begin() as connection:
            intent = await declare_intent(connection, house.vault, provider, order_id, actor="key:1", timeout_s=5)
        assert isinstance(intent, Intent)
        esims.append(intent.profile_id)
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second'"))
    assert await sweep(house.db) == count
    return esims


async def test_a_file_settles_many_and_may_be_given_again(house: House, database_url: str, tmp_path: Path) -> None:
    esims = await some_unknown(house, 30)
    file = tmp_path / "unknown.csv"
    file.write_text(
        HEADER
        + "".join(f"{esim},issued,LPA:1$smdp.example.com$NO-{esim},,portal\n" for esim in esims[:20])
        + "".join(f"{esim},not-issued,,,ticket 42\n" for esim in esims[20:])
    )
    done = tribi(database_url, "esims", "resolve", "--csv", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"line 2: eSIM {esims[0]} is provisioned."
    assert lines[-2:] == [
        f"line 31: eSIM {esims[-1]} is pending.",
        "30 lines: 30 settled, 0 already settled, 0 failed.",
    ]
    again = tribi(database_url, "esims", "resolve", "--csv", "-", given=file.read_bytes())
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[-2:] == [
        f"line 31: eSIM {esims[-1]} is pending already.",
        "30 lines: 0 settled, 30 already settled, 0 failed.",
    ]
    with psycopg.connect(database_url) as connection:
        query = (
            "SELECT tag, details->>'reason', count(*) FROM audit_log WHERE actor LIKE 'cli:%' GROUP BY 1, 2 ORDER BY 1"
        )
        assert connection.execute(query).fetchall() == [
            ("esims.resolved_issued", "portal", 20),
            ("esims.resolved_not_issued", "ticket 42", 10),
        ]


async def test_lines_that_cannot_be_settled_are_told_and_the_status_is_1(house: House, database_url: str) -> None:
    [esim] = await some_unknown(house, 1)
    given = f"{HEADER}999,issued,{CODE},,x\n{esim},not-issued,,,x\n".encode()
    done = tribi(database_url, "esims", "resolve", "--csv", "-", given=given)
    assert (done.returncode, done.stderr) == (1, "tribi: line 2: there is no eSIM 999\n")
    assert done.stdout == f"line 3: eSIM {esim} is pending.\n2 lines: 1 settled, 0 already settled, 1 failed.\n"


async def test_json_is_an_array_of_what_came_of_each_line(house: House, database_url: str) -> None:
    [esim] = await some_unknown(house, 1)
    given = f"order_reference,outcome,reason\norder-999,not-issued,x\norder-{esim},not-issued,x\n".encode()
    done = tribi(database_url, "esims", "resolve", "--csv", "-", "--json", given=given)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout) == [
        {
            "line": 2,
            "esim_id": None,
            "order_reference": "order-999",
            "outcome": "not-issued",
            "result": "failed",
            "status": None,
            "error": "there is no order 999",
        },
        {
            "line": 3,
            "esim_id": esim,
            "order_reference": f"order-{esim}",
            "outcome": "not-issued",
            "result": "settled",
            "status": "pending",
            "error": None,
        },
    ]


async def test_a_bad_line_keeps_all_from_being_settled_and_no_cell_is_repeated(house: House, database_url: str) -> None:
    [esim] = await some_unknown(house, 1)
    given = f"{HEADER}{esim},not-issued,,,x\n{CODE},issued,K2-CANARY,89445x,x\n".encode()
    done = tribi(database_url, "esims", "resolve", "--csv", "-", given=given)
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["tribi", "tribi"]
    assert "line 3: esim_id" in done.stderr
    assert done.stderr.splitlines()[-1] == "tribi: nothing was settled"
    assert "CANARY" not in done.stderr
    assert "89445" not in done.stderr
    again = tribi(database_url, "esims", "list", "--status", "unknown", "--json")
    assert [one["id"] for one in json.loads(again.stdout)] == [esim]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--csv", "x", "5"], "--csv goes alone: its file says what is settled, how and why"),
        (["--csv", "x", "--not-issued"], "--csv goes alone: its file says what is settled, how and why"),
        (["--csv", "x", "--reason", "x"], "--csv goes alone: its file says what is settled, how and why"),
        (["--not-issued", "--reason", "x"], "say which eSIM: ID, or --csv FILE for many"),
        (["5", "--not-issued", "--reason", "x", "--json"], "--json goes with --csv"),
        (["5", "--not-issued"], "--reason must say how you know, in one line of text"),
        (["--csv", "/there/is/no/such/file"], "cannot read /there/is/no/such/file: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_opened(arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(cli.app, ["esims", "resolve", *arguments])
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == sentence


@pytest.mark.parametrize("code", ["", "K2-CANARY", "LPA:1$", "LPA:2$smdp.example.com$K2-CANARY"])
def test_a_code_that_cannot_be_one_is_told_in_one_line_without_it(database_url: str, code: str) -> None:
    done = tribi(database_url, "esims", "resolve", "1", "--issued", code, "--reason", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "tribi: The activation code doesn't begin with LPA:1$ or 1$, or nothing comes after.\n"
