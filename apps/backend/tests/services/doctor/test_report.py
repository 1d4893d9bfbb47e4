"""The report: a document to keep."""

import subprocess
from datetime import UTC, datetime

from pydantic import SecretStr

from app.services.doctor.findings import by_hand, failed, passed
from app.services.doctor.report import commit, write_report
from app.settings import Settings
from tests.services.doctor.conftest import Live

AT = datetime(2026, 11, 25, 3, 55, tzinfo=UTC)
FOUND = [
    passed("one", "well"),
    failed("two", "a | b\nc", "mend it"),
    by_hand("three", "not set", "set it"),
]


def test_it_has_a_date_a_version_the_counts_and_every_line() -> None:
    text = write_report(FOUND, Settings(), AT)
    assert text.startswith("# Tribi's go-live checklist, 2026-11-25 03:55 UTC\n\nTribi 0.")
    assert "1 passed, 1 failed, 1 by hand." in text
    assert "| passed | one | well |  |" in text
    assert "| failed | two | a \\| b c | mend it |" in text
    assert "| by hand | three | not set | set it |" in text


def test_it_has_every_setting_and_no_secret(live: Live) -> None:
    settings = live(
        "https://api.example.com",
        connected_you_api_key=SecretStr("hunter2-hunter2"),
        smtp_url=SecretStr("smtps://shop:pass-word@mail.example.com"),
        mail_from="ana@example.com",
    )
    text = write_report([failed("odd", "hunter2-hunter2, LPA:1$RSP.EXAMPLE.COM$A1B2C3", "")], settings, AT)
    for name in Settings.model_fields:
        assert f"\n| {name.upper()} | " in text
    assert "| CONNECTED_YOU_BASE_URL | https://api.example.com |" in text
    assert "| CONNECTED_YOU_API_KEY | (set) |" in text
    assert "| CONNECTED_YOU_PARTNER_ID | (set) |" in text
    assert "| MAIL_FROM | (set) |" in text
    assert "| PUBLIC_URL | (unset) |" in text
    for secret in ("hunter2", "pass-word", "partner-of-tests", "ana@", "A1B2C3", "dGVzdC1r"):
        assert secret not in text


def test_settings_that_could_not_be_read_are_said_to_be() -> None:
    assert write_report(FOUND, None, AT).endswith("## Settings\n\nThey could not be read.\n")


def test_the_commit_is_the_clones() -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit() == head
    assert head in write_report(FOUND, None, AT)
