"""The traveller gets what installs, once, whatever happens to the job that sends it."""

import asyncio
import io
import ssl
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import trustme
import zxingcpp
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from PIL import Image
from pydantic import SecretStr
from sqlalchemy import select, text

from app.errors import DatabaseUnavailable
from app.house import House
from app.mail import MailNotSent, MailRefused, send_mail
from app.models import OutgoingMail
from app.services.esims import announce
from app.services.esims.activate import Activations
from app.services.esims.announce import MailUnderWay, announce_provisioned
from app.settings import Settings
from tests.builders import an_order
from tests.mailbox import Mailbox, a_free_port, a_mail_server
from tests.services.esims.conftest import MakeActivations
from tests.stand_in import StandIn


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def smtp(mailbox: Mailbox) -> Iterator[Controller]:
    with a_mail_server(mailbox) as controller:
        yield controller


@pytest.fixture
def mailing_house(house: House, smtp: Controller) -> House:
    settings = house.settings.model_copy(
        update={"smtp_url": SecretStr(f"smtp://127.0.0.1:{smtp.port}"), "mail_from": "shop@example.com"}
    )
    return House(settings, house.db, house.keyring, house.vault)


async def an_esim(house: House, activations: Activations) -> int:
    order_id = await an_order(house.db)
    return (await activations.activate(order_id, actor="key:1")).esim.id


async def on_file(house: House) -> Any:
    async with house.db.read() as connection:
        return (await connection.execute(select(OutgoingMail.__table__))).one()


async def test_the_message_holds_what_installs(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    order_id = await an_order(mailing_house.db)
    esim = (await activations.activate(order_id, actor="key:1")).esim
    await announce_provisioned(mailing_house, esim.id)

    [message] = mailbox.messages
    assert message["To"] == "Ana Traveller <ana@example.com>"
    assert message["From"] == "shop@example.com"
    assert message["Message-ID"] == f"<esim-{esim.id}-instructions@example.com>"
    code = esim.activation_code
    assert code is not None
    for kind in ("plain", "html"):
        body = message.get_body((kind,))
        assert body is not None
        shown = body.get_content().replace("&#x27;", "'")
        assert code.lpa in shown
        assert "esimsetup.apple.com" in shown
        assert "Ana Traveller" in shown
    [picture] = [part for part in message.walk() if part.get_content_type() == "image/png"]
    payload = picture.get_payload(decode=True)
    assert isinstance(payload, bytes)
    [barcode] = zxingcpp.read_barcodes(Image.open(io.BytesIO(payload)))
    assert barcode.text == code.lpa
    assert "TEST" not in message["Subject"]


async def test_an_address_with_letters_of_its_own_country_is_written_as_mail_servers_read_it(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    async with mailing_house.db.begin() as connection:
        await connection.execute(
            text("UPDATE orders SET customer_email = 'zoe@exämple.com', customer_name = 'Zoë Ünal'")
        )
    await announce_provisioned(mailing_house, esim_id)
    [message] = mailbox.messages
    [address] = message["To"].addresses
    assert (address.addr_spec, address.display_name) == ("zoe@xn--exmple-cua.com", "Zoë Ünal")


async def test_an_esim_that_is_not_live_says_test(
    mailing_house: House, make_activations: MakeActivations, mailbox: Mailbox
) -> None:
    from app.services.esim_providers import get_esim_provider

    dry_run = get_esim_provider(mailing_house.settings)
    esim_id = await an_esim(mailing_house, make_activations(dry_run))
    await announce_provisioned(mailing_house, esim_id)
    [message] = mailbox.messages
    assert message["Subject"].startswith("TEST")
    for kind in ("plain", "html"):
        body = message.get_body((kind,))
        assert body is not None
        assert "TEST" in body.get_content()


async def test_the_message_is_sent_once_although_its_job_runs_twice(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    await announce_provisioned(mailing_house, esim_id)
    await announce_provisioned(mailing_house, esim_id)
    assert len(mailbox.messages) == 1
    assert (await on_file(mailing_house)).sent_at is not None


async def test_two_workers_at_once_send_one_message(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    endings = await asyncio.gather(
        *(announce_provisioned(mailing_house, esim_id) for _ in range(4)), return_exceptions=True
    )
    assert len(mailbox.messages) == 1
    assert all(ending is None or isinstance(ending, MailUnderWay) for ending in endings)


async def test_a_worker_killed_after_sending_sends_again_with_the_same_message_id(
    mailing_house: House, activations: Activations, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object, **__: object) -> None:
        raise SystemError("killed")

    esim_id = await an_esim(mailing_house, activations)
    with monkeypatch.context() as patch:
        patch.setattr(announce, "_note", killed)
        with pytest.raises(SystemError):
            await announce_provisioned(mailing_house, esim_id)
    with pytest.raises(MailUnderWay):
        await announce_provisioned(mailing_house, esim_id)
    async with mailing_house.db.begin() as connection:
        await connection.execute(text("UPDATE outgoing_mails SET leased_until = now() - interval '1 second'"))
    await announce_provisioned(mailing_house, esim_id)
    first, second = mailbox.messages
    assert first["Message-ID"] == second["Message-ID"]


async def test_a_database_that_is_away_just_after_the_message_was_sent_costs_no_second_message(
    mailing_house: House, activations: Activations, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, tries = announce._note, 0  # noqa: SLF001 - where the database goes away

    async def note_later(house: House, mail_id: int, **values: object) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise DatabaseUnavailable("away")
        await note(house, mail_id, **values)

    monkeypatch.setattr(announce, "_note", note_later)
    monkeypatch.setattr(announce, "_NOTE_AGAIN_AFTER_S", 0)
    esim_id = await an_esim(mailing_house, activations)
    await announce_provisioned(mailing_house, esim_id)
    assert (await on_file(mailing_house)).sent_at is not None
    await announce_provisioned(mailing_house, esim_id)
    assert len(mailbox.messages) == 1


async def test_a_temporary_failure_is_tried_again(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    mailbox.replies = ["451 try later, traveller@example.com"]
    esim_id = await an_esim(mailing_house, activations)
    with pytest.raises(MailNotSent) as failure:
        await announce_provisioned(mailing_house, esim_id)
    assert "traveller@example.com" not in str(failure.value)
    await announce_provisioned(mailing_house, esim_id)
    assert len(mailbox.messages) == 1


async def test_a_refusal_for_good_is_on_file_and_not_tried_again(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    mailbox.replies = ["550 no such user"]
    esim_id = await an_esim(mailing_house, activations)
    await announce_provisioned(mailing_house, esim_id)
    await announce_provisioned(mailing_house, esim_id)
    filed = await on_file(mailing_house)
    assert mailbox.messages == []
    assert filed.refused_at is not None
    assert "550" in filed.error


async def test_without_a_mail_server_the_message_is_a_file_that_only_its_owner_reads(
    house: House, activations: Activations, tmp_path: Path
) -> None:
    here = House(house.settings.model_copy(update={"tribi_data_dir": tmp_path}), house.db, house.keyring, house.vault)
    esim_id = await an_esim(here, activations)
    await announce_provisioned(here, esim_id)
    [file] = (tmp_path / "mails").iterdir()
    assert file.name == f"esim-{esim_id}-instructions.eml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert message_from_bytes(file.read_bytes(), policy=default)["To"] == "Ana Traveller <ana@example.com>"


async def test_a_code_too_long_for_a_picture_is_sent_for_typing(
    mailing_house: House, activations: Activations, mailbox: Mailbox, supplier: StandIn
) -> None:
    supplier.script("code_very_long")
    esim_id = await an_esim(mailing_house, activations)
    await announce_provisioned(mailing_house, esim_id)
    [message] = mailbox.messages
    assert not [part for part in message.walk() if part.get_content_type() == "image/png"]
    body = message.get_body(("html",))
    assert body is not None
    assert "<img" not in body.get_content()


async def test_an_esim_that_is_not_provisioned_is_not_announced(mailing_house: House, mailbox: Mailbox) -> None:
    order_id = await an_order(mailing_house.db)
    async with mailing_house.db.read() as connection:
        esim_id = await connection.scalar(text("SELECT id FROM esim_profiles WHERE order_id = :id"), {"id": order_id})
    assert isinstance(esim_id, int)
    await announce_provisioned(mailing_house, esim_id)
    assert mailbox.messages == []


def a_message() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", "ana@example.com", "Hello"
    message.set_content("Hello")
    return message


class _Guard:
    """An authenticator that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:  # noqa: ARG002 - aiosmtpd's
        self.told.append(data)
        return AuthResult(success=True)


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_password_goes_to_a_mail_server_whose_certificate_holds_and_to_no_other(
    settings: Settings, mailbox: Mailbox, is_trusted: bool
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    guard = _Guard()
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=a_free_port(),
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=guard,
    )
    controller.start()
    trusted = ssl.create_default_context()
    (authority if is_trusted else stranger).configure_trust(trusted)
    with_mail = settings.model_copy(
        update={
            "smtp_url": SecretStr(f"smtp://shop:pass-word@127.0.0.1:{controller.port}"),
            "mail_from": "shop@example.com",
        }
    )
    try:
        if is_trusted:
            await send_mail(with_mail, a_message(), tls=trusted)
            assert len(mailbox.messages) == len(guard.told) == 1
        else:
            with pytest.raises(MailNotSent):
                await send_mail(with_mail, a_message(), tls=trusted)
            assert guard.told == []
    finally:
        controller.stop()


async def test_a_mail_server_that_is_away_is_no_refusal(settings: Settings) -> None:
    away = settings.model_copy(update={"smtp_url": SecretStr("smtp://127.0.0.1:1"), "mail_from": "shop@example.com"})
    with pytest.raises(MailNotSent):
        await send_mail(away, a_message())


def test_refused_and_not_sent_are_different_things() -> None:
    assert not issubclass(MailRefused, MailNotSent)
