"""`tribi esims`, each command a process of its own."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, text, update
from typer.testing import CliRunner

from app import cli
from app.house import House
from app.models import EsimProfile, ProvisioningAttempt
from app.services.esim_providers import get_esim_provider
from app.services.esims.activate import Activations
from app.services.esims.esim import STATUSES, Esim, list_esims
from app.settings import Settings
from app.shapes import EsimShape
from tests.builders import an_order
from tests.cli.commands import tribi


@dataclass(frozen=True)
class Stock:
    provisioned: Esim
    unknown_id: int
    pending_id: int


@pytest.fixture
async def stock(house: House, settings: Settings) -> Stock:
    """One eSIM delivered, one whose outcome is unknown (its deadline an hour ago), one just ordered."""
    activations = Activations(house, get_esim_provider(settings), timeout_s=5, wait_s=10, max_concurrency=1)
    delivered, lost = [(await activations.activate(await an_order(house.db), actor="test")).esim for _ in range(2)]
    an_hour_ago = func.now() - text("interval '1 hour'")
    async with house.db.begin() as connection:
        await connection.execute(
            update(ProvisioningAttempt)
            .where(ProvisioningAttempt.profile_id == lost.id)
            .values(outcome="unknown", problem="activation-outcome-unknown", deadline_at=an_hour_ago)
        )
        await connection.execute(
            update(EsimProfile)
            .where(EsimProfile.id == lost.id)
            .values(
                status="unknown",
                created_at=an_hour_ago,
                provisioned_at=None,
                activation_code=None,
                activation_code_fingerprint=None,
                iccid=None,
                iccid_fingerprint=None,
                qr_code=None,
            )
        )
    await an_order(house.db)
    return Stock(delivered, lost.id, lost.id + 1)


def looks(database_url: str) -> list[Any]:
    """What the audit trail says of looking."""
    query = "SELECT subject_type, subject_id, details, actor ~ '^cli:.' FROM audit_log WHERE tag = 'esims.viewed' ORDER BY id"
    with psycopg.connect(database_url) as connection:
        return connection.execute(query).fetchall()


def secrets_of(esim: Esim) -> list[str]:
    assert esim.activation_code
    assert esim.iccid
    return [esim.activation_code.lpa, esim.activation_code.text.rpartition("$")[2], esim.iccid]


def test_list_json_is_the_apis_shape_newest_first_with_codes_and_is_on_the_audit_trail(
    database_url: str, stock: Stock
) -> None:
    done = tribi(database_url, "esims", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert [esim["id"] for esim in listed] == [stock.pending_id, stock.unknown_id, stock.provisioned.id]
    assert all(set(esim) == set(EsimShape.model_fields) for esim in listed)
    assert listed[2]["activation_code"] == secrets_of(stock.provisioned)[0]
    assert listed[2]["iccid"] == stock.provisioned.iccid
    assert looks(database_url) == [("esim_profiles", None, {"count": 3}, True)]


def test_list_shows_people_those_they_ask_for_without_codes(database_url: str, stock: Stock) -> None:
    done = tribi(database_url, "esims", "list", "--limit", "9")
    assert (done.returncode, done.stderr) == (0, "")
    ids = [stock.pending_id, stock.unknown_id, stock.provisioned.id]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ID", *map(str, ids)]
    for secret in secrets_of(stock.provisioned):
        assert secret not in done.stdout
    assert looks(database_url) == []


async def test_a_list_can_be_of_one_status_of_the_unfulfilled_or_cut(house: House, stock: Stock) -> None:
    async def ids(**options: Any) -> list[int]:
        async with house.db.read() as connection:
            return [esim.id for esim in await list_esims(connection, house.vault, **options)]

    assert await ids(status="provisioned") == [stock.provisioned.id]
    assert await ids(status="unknown", only_unfulfilled=True) == [stock.unknown_id]
    assert await ids(only_unfulfilled=True) == [stock.unknown_id]
    assert await ids(limit=2) == [stock.pending_id, stock.unknown_id]
    assert await ids(before_id=stock.unknown_id) == [stock.provisioned.id]
    assert await ids(status="cancelled") == []


def test_show_json_has_attempts_and_every_word_of_the_provider_and_is_on_the_audit_trail(
    database_url: str, stock: Stock
) -> None:
    done = tribi(database_url, "esims", "show", str(stock.provisioned.id), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert set(shown) == {*EsimShape.model_fields, "attempts", "mails", "provider_payload", "news"}
    assert shown["provider_payload"]["dry_run"] is True
    assert shown["provider_payload"]["data"]["iccid"] == stock.provisioned.iccid
    [attempt] = shown["attempts"]
    assert (attempt["outcome"], attempt["reference"]) == ("delivered", f"order-{stock.provisioned.order_id}")
    assert attempt["request"]["planCode"] == "CY-ES-5GB"
    assert attempt["response_body"] == shown["provider_payload"]
    assert looks(database_url) == [("esim_profiles", stock.provisioned.id, {"count": 1}, True)]


def test_show_for_people_says_the_same_in_lines(database_url: str, stock: Stock) -> None:
    done = tribi(database_url, "esims", "show", str(stock.provisioned.id))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert ["status:", "provisioned"] in lines
    assert ["activation_code:", secrets_of(stock.provisioned)[0]] in lines
    assert ["outcome:", "delivered"] in lines
    assert len(looks(database_url)) == 1


def test_resolve_takes_a_persons_word_on_an_unknown_outcome(database_url: str, stock: Stock) -> None:
    unknown = str(stock.unknown_id)
    done = tribi(
        database_url,
        "esims",
        "resolve",
        unknown,
        "--issued",
        "LPA:1$smdp.example.com$FOUND",
        "--reason",
        "they told us",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"eSIM {unknown} is provisioned.\n", "")
    with psycopg.connect(database_url) as connection:
        query = "SELECT details->>'reason', actor ~ '^cli:.' FROM audit_log WHERE tag = 'esims.resolved_issued'"
        assert connection.execute(query).fetchall() == [("they told us", True)]


def test_an_esim_that_is_not_there_is_told_in_one_line(database_url: str) -> None:
    done = tribi(database_url, "esims", "show", "4711")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "tribi: there is no eSIM 4711\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "--status", "lost"], f"--status must be one of: {', '.join(STATUSES)}"),
        (["resolve", "1", "--reason", "x"], "say either --issued CODE or --not-issued"),
        (
            ["resolve", "1", "--issued", "LPA:1$a$b", "--not-issued", "--reason", "x"],
            "say either --issued CODE or --not-issued",
        ),
        (["resolve", "1", "--not-issued", "--iccid", "89", "--reason", "x"], "--iccid goes with --issued"),
        (["resolve", "1", "--not-issued", "--reason", " "], "--reason must say how you know, in one line of text"),
        (["resolve", "1", "--not-issued", "--reason", "a\nb"], "--reason must say how you know, in one line of text"),
    ],
    ids=["status", "neither", "both", "iccid", "no reason", "two lines"],
)
def test_what_makes_no_sense_is_refused_before_anything_is_opened(arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(cli.app, ["esims", *arguments])
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == sentence


@pytest.mark.parametrize("number", ["0", "-1", "9223372036854775808", "x"])
def test_what_is_no_id_is_refused(number: str) -> None:
    assert CliRunner().invoke(cli.app, ["esims", "show", "--", number]).exit_code == 2


# The link to the install page


def links_on_file(database_url: str) -> list[Any]:
    query = "SELECT tag, actor ~ '^cli:.' FROM audit_log WHERE tag ~ '^esims[.](page|viewed)' ORDER BY id"
    with psycopg.connect(database_url) as connection:
        return connection.execute(query).fetchall()


def test_the_link_is_shown_alone_renewed_and_withdrawn_and_each_is_on_the_audit_trail(
    database_url: str, stock: Stock
) -> None:
    of = str(stock.provisioned.id)
    settings = {"PUBLIC_URL": "https://esims.example"}
    first = tribi(database_url, "esims", "link", of, settings=settings)
    assert re.fullmatch(r"https://esims\.example/i/[a-z2-7]{32}\n", first.stdout)
    assert re.fullmatch(r"Works until \d{4}-\d\d-\d\dT[\d:.]+Z\.\n", first.stderr)
    renewed = tribi(database_url, "esims", "link", of, "--renew", "--json", settings=settings)
    page_url = json.loads(renewed.stdout)["page_url"]
    assert page_url.startswith("https://esims.example/i/")
    assert page_url != first.stdout.strip()
    listed = json.loads(tribi(database_url, "esims", "list", "--json", settings=settings).stdout)
    assert next(esim for esim in listed if esim["id"] == stock.provisioned.id)["install"]["page_url"] == page_url
    assert "PUBLIC_URL is not set" in tribi(database_url, "esims", "link", of).stderr
    withdrawn = tribi(database_url, "esims", "link", of, "--withdraw")
    assert (withdrawn.returncode, withdrawn.stdout) == (
        0,
        f"eSIM {of} has no link any more; --renew makes a new one.\n",
    )
    refused = tribi(database_url, "esims", "link", of)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(
        rf"tribi: the link of eSIM {of} was withdrawn \([\d-]+\); make another one: tribi esims link {of} --renew\n",
        refused.stderr,
    )
    made, viewed, ended = ("esims.page_made", True), ("esims.viewed", True), ("esims.page_withdrawn", True)
    assert links_on_file(database_url) == [made, viewed, made, viewed, viewed, viewed, ended]


def test_a_link_is_either_renewed_or_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = CliRunner().invoke(cli.app, ["esims", "link", "1", "--renew", "--withdraw"])
    assert isinstance(ran.exception, ValueError)
    assert "either --renew or --withdraw" in str(ran.exception)


# --- Mail


async def test_what_became_of_its_messages_is_shown_and_those_refused_are_listed(
    stock: Stock, database_url: str, house: House
) -> None:
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO outgoing_mails (profile_id, kind, refused_at, error)"
                " VALUES (:id, 'instructions', now(), 'SMTPRecipientRefused: 550 no such user')"
            ),
            {"id": stock.provisioned.id},
        )
    shown = json.loads(tribi(database_url, "esims", "show", str(stock.provisioned.id), "--json").stdout)
    [mail] = shown["mails"]
    assert (mail["kind"], mail["sent_at"], mail["error"]) == (
        "instructions",
        None,
        "SMTPRecipientRefused: 550 no such user",
    )
    rows = (shown, *shown["attempts"], mail)
    times = [value for row in rows for name, value in row.items() if name.endswith("_at") and value is not None]
    assert len(times) >= 6
    assert [time for time in times if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)] == []
    listed = json.loads(tribi(database_url, "esims", "list", "--mail-refused", "--json").stdout)
    assert [esim["id"] for esim in listed] == [stock.provisioned.id]


async def test_a_message_is_sent_again_to_an_address_that_was_corrected(
    stock: Stock, database_url: str, house: House, tmp_path: Path
) -> None:
    esim_id = str(stock.provisioned.id)
    wrong = tribi(database_url, "esims", "resend", esim_id, "--to", "anna@example")
    assert (wrong.returncode, "e-mail address" in wrong.stderr) == (1, True)
    done = tribi(
        database_url, "esims", "resend", esim_id, "--to", "anna@example.com", settings={"TRIBI_DATA_DIR": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path / "mails" / f"esim-{esim_id}-resend-1.eml") in done.stdout
    async with house.db.read() as connection:
        assert await connection.scalar(text("SELECT customer_email FROM orders WHERE id = 1")) == "anna@example.com"


async def test_with_a_mail_server_the_message_is_on_its_way(stock: Stock, database_url: str) -> None:
    mail = {"SMTP_URL": "smtp://127.0.0.1:1", "MAIL_FROM": "shop@example.com"}
    done = tribi(database_url, "esims", "resend", str(stock.provisioned.id), settings=mail)
    assert "is on its way" in done.stdout
