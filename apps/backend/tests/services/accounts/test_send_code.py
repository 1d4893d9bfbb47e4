"""The code's message goes to who has orders, once, and the code is gone from the database afterwards."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

import app.db as db_module
from app.errors import DatabaseUnavailable
from app.house import House
from app.mail import MailNotSent
from app.models import AuditEntry, SignInCode
from app.services.accounts import send_code as sending
from app.services.accounts.codes import request_code
from app.services.accounts.send_code import CodeUnderWay, send_code
from app.services.accounts.sessions import sign_in
from app.traveller import LANGUAGES, Language
from tests.mailbox import Mailbox
from tests.services.accounts.conftest import ANA, CODE, ordered, time_passes


@pytest.fixture
def mailing(mailing_house: House) -> House:
    return changed(mailing_house, mail_from_name="A Shop", support_contact="help@example.com")


def changed(house: House, **settings: object) -> House:
    return House(house.settings.model_copy(update=settings), house.db, house.keyring, house.vault)


async def wanted(house: House, address: str = ANA, *, language: Language | None = "en") -> int:
    """The id of a new code."""
    await request_code(house, address, client="192.0.2.1", language=language)
    async with house.db.read() as connection:
        return int((await connection.scalars(select(SignInCode.id).order_by(SignInCode.id.desc()))).first() or 0)


async def on_file(house: House, code_id: int) -> Any:
    async with house.db.read() as connection:
        return (await connection.execute(select(SignInCode.__table__).where(SignInCode.id == code_id))).one()


async def test_the_code_is_sent_and_then_erased(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing)
    code_id = await wanted(mailing)
    with capture_logs() as logs:
        await send_code(mailing, code_id)
    [message] = mailbox.messages
    assert (message["To"], message["From"]) == (ANA, "A Shop <shop@example.com>")
    assert (message["Reply-To"], message["Auto-Submitted"]) == ("help@example.com", "auto-generated")
    asked_ms = int((await on_file(mailing, code_id)).created_at.timestamp() * 1000)
    assert message["Message-ID"] == f"<sign-in-code-{code_id}.{asked_ms:x}@example.com>"
    assert CODE not in message["Subject"]
    for kind in ("plain", "html"):
        body = message.get_body((kind,))
        assert body is not None
        assert CODE in body.get_content()
        assert "within 10 minutes" in body.get_content()
        assert "help@example.com" in body.get_content()
    row = await on_file(mailing, code_id)
    assert row.code is None
    assert row.sent_at is not None
    assert CODE not in str(logs)
    assert ANA not in str(logs)
    async with mailing.db.read() as connection:
        entry = (await connection.execute(select(AuditEntry).where(AuditEntry.tag == "travellers.code_sent"))).one()
        assert (entry.actor, entry.subject_type, entry.subject_id) == ("system", "sign_in_codes", code_id)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_it_is_in_the_language_of_who_asks(mailing: House, mailbox: Mailbox, language: Language) -> None:
    from app.traveller import texts_in

    await ordered(mailing)
    await send_code(mailing, await wanted(mailing, language=language))
    [message] = mailbox.messages
    assert (message["Subject"], message["Content-Language"]) == (texts_in(language)("sign_in.subject"), language)
    html = message.get_body(("html",))
    assert html is not None
    assert f'<html lang="{language}">' in html.get_content()


@pytest.mark.parametrize(("locale", "language"), [("pt-BR", "pt"), ("ja", "de"), (None, "de")])
async def test_who_likes_none_of_our_languages_gets_that_of_the_newest_order(
    mailing: House, mailbox: Mailbox, locale: str | None, language: Language
) -> None:
    german = changed(mailing, default_language="de")
    await ordered(german, locale="es")
    await ordered(german, locale=locale)
    await send_code(german, await wanted(german, language=None))
    await send_code(german, await wanted(german, language="fr"))
    assert [message["Content-Language"] for message in mailbox.messages] == [language, "fr"]


async def test_an_address_without_orders_gets_nothing(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing)
    code_id = await wanted(mailing, "nobody@example.com")
    await send_code(mailing, code_id)
    assert mailbox.messages == []
    row = await on_file(mailing, code_id)
    assert (row.code, row.sent_at) == (None, None)


async def test_it_goes_to_the_address_as_the_newest_order_has_it(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing, "ana@exämple.com")
    await ordered(mailing, "Ana@exämple.com")
    await send_code(mailing, await wanted(mailing, "ANA@exämple.com"))
    [message] = mailbox.messages
    assert message["To"] == "Ana@xn--exmple-cua.com"


async def test_a_job_that_runs_again_sends_nothing(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing)
    code_id = await wanted(mailing)
    for _ in range(3):
        await send_code(mailing, code_id)
    assert len(mailbox.messages) == 1


async def test_of_several_at_once_one_sends(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing)
    code_id = await wanted(mailing)
    ended = await asyncio.gather(*(send_code(mailing, code_id) for _ in range(4)), return_exceptions=True)
    assert len(mailbox.messages) == 1
    assert {type(one) for one in ended} <= {type(None), CodeUnderWay}


async def test_a_worker_that_dies_leaves_it_to_another_once_its_lease_is_over(
    mailing: House, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise asyncio.CancelledError

    await ordered(mailing)
    code_id = await wanted(mailing)
    with monkeypatch.context() as patch:
        patch.setattr(sending, "send_mail", die)
        with pytest.raises(asyncio.CancelledError):
            await send_code(mailing, code_id)
    with pytest.raises(CodeUnderWay):
        await send_code(mailing, code_id)
    await time_passes(mailing, "sign_in_codes", 121)
    await send_code(mailing, code_id)
    assert len(mailbox.messages) == 1


async def test_a_database_that_is_away_just_after_the_message_was_sent_costs_no_second_message(
    mailing: House, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, tries = sending._note_sent, 0  # noqa: SLF001 - where the database goes away

    async def note_later(house: House, code_id: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            await note(house, code_id)  # and the answer to its commit is lost
        if tries < 3:
            raise DatabaseUnavailable("away")
        await note(house, code_id)

    monkeypatch.setattr(sending, "_note_sent", note_later)
    monkeypatch.setattr(db_module, "_STORE_AGAIN_AFTER_S", 0)
    await ordered(mailing)
    code_id = await wanted(mailing)
    await send_code(mailing, code_id)
    assert tries == 3
    row = await on_file(mailing, code_id)
    assert (row.code, row.sent_at is not None) == (None, True)
    await send_code(mailing, code_id)
    assert len(mailbox.messages) == 1
    async with mailing.db.read() as connection:
        sent = select(AuditEntry.id).where(AuditEntry.tag == "travellers.code_sent")
        assert len((await connection.execute(sent)).all()) == 1


async def test_a_mail_server_that_is_away_is_tried_again(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing)
    code_id = await wanted(mailing)
    mailbox.replies.append("451 later")
    with pytest.raises(MailNotSent):
        await send_code(mailing, code_id)
    assert (await on_file(mailing, code_id)).code is not None
    await send_code(mailing, code_id)
    assert len(mailbox.messages) == 1


async def test_a_mail_server_that_says_no_ends_it(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing)
    code_id = await wanted(mailing)
    mailbox.replies.append("550 no such user")
    await send_code(mailing, code_id)
    assert (await on_file(mailing, code_id)).code is None


async def test_a_code_that_has_run_out_is_not_sent_but_erased(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing)
    code_id = await wanted(mailing)
    await time_passes(mailing, "sign_in_codes", 601)
    await send_code(mailing, code_id)
    assert mailbox.messages == []
    assert (await on_file(mailing, code_id)).code is None


async def test_a_code_that_was_used_is_gone_even_where_its_message_was_late(mailing: House, mailbox: Mailbox) -> None:
    await ordered(mailing)
    request = await request_code(mailing, ANA, client="192.0.2.1", language="en")
    await sign_in(mailing, request, CODE, client="192.0.2.1", former=None)
    async with mailing.db.read() as connection:
        row = (await connection.execute(select(SignInCode.__table__))).one()
    assert row.code is None
    await send_code(mailing, row.id)
    assert mailbox.messages == []
