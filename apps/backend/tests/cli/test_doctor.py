"""`tribi doctor` as somebody types it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.db import Database
from tests.builders import a_plan
from tests.cli.commands import tribi
from tests.stand_in import StandIn
from tests.stand_in.elsewhere import stand_in_thread

API_KEY = "canary/api+key"
EMAIL = "zoe.canary@example.com"
LIVE = ("doctor", "--live", "--email", EMAIL)


@pytest.fixture
def supplier(tmp_path: Path) -> Iterator[StandIn]:
    with stand_in_thread(ledger=tmp_path / "ledger.jsonl", fsync=False, api_key=API_KEY) as stand_in:
        yield stand_in
        assert stand_in.violations == []


@pytest.fixture
def dry(tmp_path: Path) -> dict[str, str]:
    """Settings of a dry run."""
    return {"TRIBI_DATA_DIR": str(tmp_path / "data")}


@pytest.fixture
def live(dry: dict[str, str], supplier: StandIn) -> dict[str, str]:
    """Settings to buy at the stand-in."""
    at = {"CONNECTED_YOU_BASE_URL": supplier.url, "CONNECTED_YOU_API_KEY": API_KEY, "CONNECTED_YOU_DRY_RUN": "false"}
    return dry | at | {"CONNECTED_YOU_TIMEOUT_SECONDS": "5"}


@pytest.fixture
async def stocked_url(db: Database, database_url: str) -> str:
    """A database with a plan on sale."""
    await a_plan(db, sku="es-5gb")
    return database_url


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in json.loads(done.stdout)}


def test_a_local_try_out_is_green(dry: dict[str, str], tmp_path: Path) -> None:
    """The embedded database, LOCAL, no mail server, no public address, and nobody at work."""
    settings = dry | {"ENCRYPTION_KEY": "", "ESIM_PROVIDER": "LOCAL"}
    done = tribi("", "doctor", settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert first.split() == ["RESULT", "LINE", "FOUND,", "AND", "WHAT", "TO", "DO"]
    assert last.endswith(" passed, 0 failed, 7 by hand.")
    assert "passed   secret-files" in done.stdout
    assert list((tmp_path / "data").iterdir()) != []


def test_json_is_one_array_of_lines(stocked_url: str, dry: dict[str, str]) -> None:
    done = tribi(stocked_url, "doctor", "--json", settings=dry)
    assert done.returncode == 0
    found = lines(done)
    assert found["catalogue"] == {
        "name": "catalogue",
        "result": "passed",
        "detail": "1 on sale, each with its code at CONNECTED_YOU",
        "to_do": None,
    }
    assert {line["result"] for line in found.values()} == {"passed", "by hand"}


def test_a_failure_is_exit_status_1_and_says_what_to_type(database_url: str, dry: dict[str, str]) -> None:
    done = tribi(database_url, "doctor", settings=dry | {"PUBLIC_URL": "http://shop.example"})
    assert (done.returncode, done.stderr) == (1, "")
    [failed] = [line for line in done.stdout.splitlines() if line.startswith("failed ")]
    assert failed.split()[1] == "public-url"
    assert ", 1 failed, " in done.stdout.splitlines()[-1]


def test_settings_that_cannot_be_read_are_the_failed_lines(database_url: str, tmp_path: Path) -> None:
    broken = {"ESIM_PROVIDER": "NOBODY", "SMTP_URL": "hunter2"}
    file = tmp_path / "report.md"
    done = tribi(database_url, "doctor", "--live", "--json", "--report", str(file), settings=broken)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert {(line["name"], line["result"]) for line in found} == {("settings", "failed")}
    assert [line["detail"].partition(":")[0] for line in found] == ["ESIM_PROVIDER", "SMTP_URL"]
    assert "hunter2" not in done.stdout + file.read_text()
    assert "They could not be read." in file.read_text()


def test_a_report_is_written_and_one_that_cannot_be_is_told_before_anything(
    database_url: str, live: dict[str, str], supplier: StandIn, tmp_path: Path
) -> None:
    file = tmp_path / "report.md"
    done = tribi(database_url, "doctor", "--report", str(file), settings=live)
    report = file.read_text()
    assert report.startswith("# Tribi's go-live checklist, 20")
    for line in ("| passed | live-orders | LIVE ORDERS ARE ON", "| CONNECTED_YOU_API_KEY | (set) |"):
        assert line in report
    assert API_KEY not in report + done.stdout
    assert done.stdout.startswith("LIVE ORDERS ARE ON: each activation spends money at CONNECTED_YOU.\n")

    done = tribi(database_url, *LIVE, "--report", str(tmp_path / "no" / "where.md"), given=b"y\n", settings=live)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tribi: cannot write {tmp_path}/no/where.md: ")
    assert supplier.issued == []


# --- --live


def test_live_asks_buys_one_and_tells_every_field(
    stocked_url: str, live: dict[str, str], supplier: StandIn, tmp_path: Path
) -> None:
    file = tmp_path / "report.md"
    done = tribi(stocked_url, *LIVE, "--report", str(file), given=b"y\n", settings=live)
    assert done.returncode == 0, done.stdout + done.stderr
    [issued] = supplier.issued
    shown = done.stderr
    for part in (
        f"  POST {supplier.url}/partners/orders\n",
        "  x-api-key: ********\n",
        f'"orderReference": "{issued.reference}"',
        f'"email": "{EMAIL}"',
        "Plan es-5gb: sold for 12.90 EUR, cost there: not in the catalogue.",
        "Buy it? Type y: ",
    ):
        assert part in shown
    assert "data.activationCode\n  expected  LPA:1$, SM-DP+ address, $, matching ID" in done.stdout
    assert f'  got       "{issued.activation_code}"\n  as expected' in done.stdout
    assert f'  got       "{issued.iccid}"' in done.stdout
    report = file.read_text()
    assert "| passed | live-purchase | one eSIM was bought: " in report
    assert "| passed | live-data.activationCode | as expected; " in report
    for secret in (issued.activation_code, issued.activation_code.rpartition("$")[2], issued.iccid, EMAIL, API_KEY):
        assert secret not in report
    assert API_KEY not in done.stdout + done.stderr
    assert issued.activation_code not in done.stderr


@pytest.mark.parametrize("answer", [b"n\n", b"", b"yes\n"])
async def test_anything_but_y_buys_nothing(
    stocked_url: str, live: dict[str, str], supplier: StandIn, answer: bytes, db: Database
) -> None:
    done = tribi(stocked_url, *LIVE, "--json", given=answer, settings=live)
    assert done.returncode == 1
    line = lines(done)["live-purchase"]
    assert (line["result"], line["detail"]) == ("failed", "nothing was sent: the answer was not y")
    assert [request.method for request in supplier.requests] == ["HEAD"]
    async with db.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM orders")) == 0


def test_a_second_run_asks_again(stocked_url: str, live: dict[str, str], supplier: StandIn) -> None:
    runs = []
    for answer, issued in ((b"y\n", 1), (b"", 1), (b"y\n", 2)):
        runs.append(tribi(stocked_url, *LIVE, "--json", given=answer, settings=live))
        assert len(supplier.issued) == issued
    done = runs[-1]
    found = lines(done)
    assert found["live-purchase"]["result"] == found["live-data.iccid"]["result"] == "passed"
    assert supplier.issued[1].activation_code not in done.stdout
    assert len({line.reference for line in supplier.issued}) == 2


def test_live_refuses_in_one_line_where_nothing_is_sold(stocked_url: str, dry: dict[str, str]) -> None:
    done = tribi(stocked_url, *LIVE, "--json", given=b"y\n", settings=dry)
    assert done.returncode == 1
    failed = [line for line in json.loads(done.stdout) if line["result"] == "failed"]
    assert [line["name"] for line in failed] == ["live-purchase"]
    assert failed[0]["to_do"] == "set CONNECTED_YOU_DRY_RUN=false"
    assert "Type y" not in done.stderr


def test_a_lost_answer_says_what_to_do(stocked_url: str, live: dict[str, str], supplier: StandIn) -> None:
    supplier.script("close_after")
    done = tribi(stocked_url, *LIVE, "--json", given=b"y\n", settings=live)
    assert done.returncode == 1
    assert "tribi esims resolve" in lines(done)["live-purchase"]["to_do"]
    assert len(supplier.issued) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("doctor", "--sku", "es-5gb"), "tribi: --sku and --email go with --live\n"),
        (("doctor", "--live", "--email", "nobody"), None),
    ],
)
def test_what_cannot_be_meant_is_told(
    stocked_url: str, live: dict[str, str], supplier: StandIn, words: tuple[str, ...], said: str | None
) -> None:
    done = tribi(stocked_url, *words, given=b"y\n", settings=live)
    assert done.returncode == 1
    assert said is None or (done.stdout, done.stderr) == ("", said)
    assert said is not None or "nothing was sent: " in done.stdout
    assert supplier.issued == []
