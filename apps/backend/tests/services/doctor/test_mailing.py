"""The mail server: connection, TLS, sign-in, and no message."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from pydantic import SecretStr
from sqlalchemy import text

from app.house import House
from app.services.doctor.mailing import check_mail_server, check_refused
from app.settings import Settings
from tests.builders import an_order
from tests.mailbox import Mailbox, a_free_port, a_mail_server
from tests.services.doctor.conftest import results, the_failure
from tests.stand_in.certificates import Certificates, Pair

PASSWORD = "pass-word-of-tests"


def mailing(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"smtp_url": SecretStr(url), "mail_from": "shop@example.com"})


@contextmanager
def guarded(mailbox: Mailbox, pair: Pair) -> Iterator[int]:
    """The port of a server that wants STARTTLS and a password."""

    def is_known(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=a_free_port(),
        tls_context=pair.server_context(),
        require_starttls=True,
        auth_required=True,
        authenticator=is_known,
    )
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


async def test_a_mail_server_is_wanted_by_hand(settings: Settings) -> None:
    [found] = await check_mail_server(settings)
    assert (found.result.value, "SMTP_URL" in str(found.to_do)) == ("by hand", True)


async def test_a_mail_server_that_takes_us_passes_and_gets_no_message(settings: Settings) -> None:
    mailbox = Mailbox()
    with a_mail_server(mailbox) as server:
        [found] = await check_mail_server(mailing(settings, f"smtp://127.0.0.1:{server.port}"))
    assert (found.result.value, found.detail) == (
        "passed",
        "127.0.0.1: plain, on this machine, without a sign-in; no message was sent",
    )
    assert mailbox.messages == []


async def test_a_password_is_tried_over_tls(
    settings: Settings, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority_file))
    mailbox = Mailbox()
    with guarded(mailbox, certificates.good) as port:
        [found] = await check_mail_server(mailing(settings, f"smtp://shop:{PASSWORD}@127.0.0.1:{port}"))
        wrong = the_failure(await check_mail_server(mailing(settings, f"smtp://shop:wrong-word@127.0.0.1:{port}")))
    assert "TLS, certificate verified, signed in" in found.detail
    assert "SMTPAuthenticationError" in wrong.detail
    assert "wrong-word" not in repr(wrong)
    assert mailbox.messages == []


async def test_a_mail_server_whose_certificate_does_not_hold_fails(
    settings: Settings, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority_file))
    with guarded(Mailbox(), certificates.wrong_host) as port:
        failure = the_failure(await check_mail_server(mailing(settings, f"smtp://shop:{PASSWORD}@127.0.0.1:{port}")))
    assert "SMTP_URL" in str(failure.to_do)


async def test_a_mail_server_that_is_away_fails(settings: Settings) -> None:
    failure = the_failure(await check_mail_server(mailing(settings, "smtps://127.0.0.1:1")))
    assert failure.detail.startswith("127.0.0.1 takes no mail from us: ")


async def test_a_message_that_was_refused_and_not_sent_since_fails_with_the_command_that_lists_it(house: House) -> None:
    await an_order(house.db)
    assert results(await check_refused(house)) == {"mails-refused": "passed"}
    for statement, result in (
        (
            "INSERT INTO outgoing_mails (profile_id, kind, refused_at) SELECT id, 'data_80', now() FROM esim_profiles",
            "passed",
        ),
        (
            "INSERT INTO outgoing_mails (profile_id, kind, refused_at) SELECT id, 'instructions', now() FROM esim_profiles",
            "failed",
        ),
        ("INSERT INTO outgoing_mails (profile_id, kind, number) SELECT id, 'resend', 1 FROM esim_profiles", "passed"),
        ("UPDATE outgoing_mails SET refused_at = now() WHERE kind = 'resend'", "failed"),
        ("UPDATE outgoing_mails SET refused_at = now() - interval '31 days'", "passed"),
    ):
        async with house.db.begin() as connection:
            await connection.execute(text(statement))
        [found] = await check_refused(house)
        assert found.result.value == result, statement
        assert result == "passed" or str(found.to_do).startswith("tribi esims list --mail-refused")
