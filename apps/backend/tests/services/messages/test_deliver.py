"""The traveller gets what installs, once, whatever happens to the job that sends it."""

import asyncio
import io
import re
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from PIL import Image
from sqlalchemy import select, text
from structlog.testing import capture_logs

import app.db as db_module
from app import metrics
from app.direct import Direct
from app.errors import DatabaseUnavailable
from app.house import House
from app.mail import MailNotSent
from app.models import OutgoingMail
from app.services.esim_providers import get_esim_provider
from app.services.esims.activate import Activations
from app.services.esims.resend import resend_instructions
from app.services.esims.thresholds import note_thresholds
from app.services.messages import deliver as delivering
from app.services.messages.announce import announce_provisioned
from app.services.messages.deliver import MailUnderWay, deliver
from tests.builders import an_order
from tests.mailbox import Mailbox, text_of
from tests.services.esims.conftest import MakeActivations
from tests.stand_in import StandIn


async def an_esim(house: House, activations: Activations) -> int:
    order_id = await an_order(house.db)
    return (await activations.activate(order_id, actor="key:1")).esim.id


async def on_file(house: House) -> list[Any]:
    async with house.db.read() as connection:
        return list((await connection.execute(select(OutgoingMail.__table__).order_by(OutgoingMail.id))).all())


async def changed(house: House, statement: str, **values: object) -> None:
    async with house.db.begin() as connection:
        await connection.execute(text(statement), values)


async def the_lease_ends(house: House) -> None:
    await changed(house, "UPDATE outgoing_mails SET leased_until = now() - interval '1 second'")


def counted(kind: str, outcome: str) -> float:
    return float(metrics.MAILS.labels(kind, outcome)._value.get())  # noqa: SLF001 - prometheus-client has no other way to ask


async def test_the_message_holds_what_installs(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    order_id = await an_order(mailing_house.db)
    esim = (await activations.activate(order_id, actor="key:1")).esim
    await announce_provisioned(mailing_house, esim.id)

    [message] = mailbox.messages
    assert message["To"] == "Ana Traveller <ana@example.com>"
    assert message["From"] == "shop@example.com"
    assert message["Message-ID"].startswith(f"<esim-{esim.id}-instructions.")
    assert message["Message-ID"].endswith("@example.com>")
    code = esim.activation_code
    assert code is not None
    for kind in ("plain", "html"):
        shown = text_of(message, kind)
        assert code.lpa in shown
        assert "esimsetup.apple.com" in shown
        assert "Ana Traveller" in shown
    [picture] = [part for part in message.walk() if part.get_content_type() == "image/png"]
    payload = picture.get_payload(decode=True)
    assert isinstance(payload, bytes)
    [barcode] = zxingcpp.read_barcodes(Image.open(io.BytesIO(payload)))
    assert barcode.text == code.lpa
    assert "TEST" not in message.as_string()


async def test_the_message_is_in_the_language_of_the_order(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    await changed(mailing_house, "UPDATE orders SET customer_locale = 'pt-BR'")
    await announce_provisioned(mailing_house, esim_id)
    [message] = mailbox.messages
    assert message["Content-Language"] == "pt"
    assert message["Subject"].startswith("O seu eSIM está pronto")
    assert 'lang="pt"' in text_of(message, "html")


async def test_the_link_to_the_install_page_is_in_it_where_one_is_known_that_travellers_reach(
    mailing_house: House, activations: Activations, mailbox: Mailbox, tmp_path: Path
) -> None:
    """Without PUBLIC_URL it begins with an address of this machine: right for a file on it, of no use in a traveller's mailbox."""
    esim_id = await an_esim(mailing_house, activations)
    base = {"tribi_data_dir": tmp_path, "public_url": None}
    for changes in ({"public_url": "https://esims.example.com"}, {}, {"smtp_url": None}):
        settings = mailing_house.settings.model_copy(update=base | changes)
        here = House(settings, mailing_house.db, mailing_house.keyring, mailing_house.vault)
        written = await resend_instructions(here, esim_id, actor="test")
        await deliver(here, written.mail_id)
    public, none = ("\n".join(text_of(message, "plain").splitlines()) for message in mailbox.messages)
    [file] = (tmp_path / "mails").iterdir()
    assert re.search(r"^https://esims\.example\.com/i/[a-z2-7]{32}$", public, re.MULTILINE)
    assert "/i/" not in none
    assert re.search(r"http://127\.0\.0\.1:8000/i/[a-z2-7]{32}", file.read_text())


async def test_an_address_with_letters_of_its_own_country_is_written_as_mail_servers_read_it(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    await changed(mailing_house, "UPDATE orders SET customer_email = 'zoe@exämple.com', customer_name = 'Zoë Ünal'")
    await announce_provisioned(mailing_house, esim_id)
    [message] = mailbox.messages
    [address] = message["To"].addresses
    assert (address.addr_spec, address.display_name) == ("zoe@xn--exmple-cua.com", "Zoë Ünal")
    assert mailbox.recipients == ["zoe@xn--exmple-cua.com"]


async def test_what_installs_is_sent_whatever_has_become_of_the_plan(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    """Whoever asks for it wants it; a notice would be dropped."""
    esim_id = await an_esim(mailing_house, activations)
    over = "UPDATE esim_profiles SET plan_state = 'terminated', plan_expires_at = now() - interval '1 day'"
    await changed(mailing_house, over)
    await announce_provisioned(mailing_house, esim_id)
    await deliver(mailing_house, (await resend_instructions(mailing_house, esim_id, actor="test")).mail_id)
    assert [message["Message-ID"].split("-")[2].split(".")[0] for message in mailbox.messages] == [
        "instructions",
        "resend",
    ]


async def test_an_esim_that_is_not_live_says_test(
    mailing_house: House, make_activations: MakeActivations, mailbox: Mailbox
) -> None:
    dry_run = get_esim_provider(mailing_house.settings)
    esim_id = await an_esim(mailing_house, make_activations(dry_run))
    await announce_provisioned(mailing_house, esim_id)
    [message] = mailbox.messages
    assert message["Subject"].startswith("TEST")
    assert "TEST" in text_of(message, "plain")
    assert "TEST" in text_of(message, "html")


# --- Once


async def test_the_message_is_sent_once_although_its_job_runs_twice(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    before = counted("instructions", "sent")
    await announce_provisioned(mailing_house, esim_id)
    await announce_provisioned(mailing_house, esim_id)
    assert len(mailbox.messages) == 1
    [row] = await on_file(mailing_house)
    assert row.sent_at is not None
    assert counted("instructions", "sent") == before + 1


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
        patch.setattr(delivering, "_note", killed)
        with pytest.raises(SystemError):
            await announce_provisioned(mailing_house, esim_id)
    with pytest.raises(MailUnderWay):
        await announce_provisioned(mailing_house, esim_id)
    await the_lease_ends(mailing_house)
    await announce_provisioned(mailing_house, esim_id)
    first, second = mailbox.messages
    assert first["Message-ID"] == second["Message-ID"]


async def test_a_database_that_is_away_just_after_the_message_was_sent_costs_no_second_message(
    mailing_house: House, activations: Activations, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, tries = delivering._note, 0  # noqa: SLF001 - where the database goes away

    async def note_later(house: House, outcome: Direct, mail_id: int) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise DatabaseUnavailable("away")
        await note(house, outcome, mail_id)

    monkeypatch.setattr(delivering, "_note", note_later)
    monkeypatch.setattr(db_module, "_STORE_AGAIN_AFTER_S", 0)
    esim_id = await an_esim(mailing_house, activations)
    await announce_provisioned(mailing_house, esim_id)
    [row] = await on_file(mailing_house)
    assert row.sent_at is not None
    await announce_provisioned(mailing_house, esim_id)
    assert len(mailbox.messages) == 1


async def test_a_message_asked_for_again_is_another_one_to_the_order_s_address_as_it_is_now(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    await announce_provisioned(mailing_house, esim_id)
    written = await resend_instructions(mailing_house, esim_id, actor="test", to="anna@example.com")
    await deliver(mailing_house, written.mail_id)
    await deliver(mailing_house, written.mail_id)
    first, second = mailbox.messages
    assert first["Message-ID"] != second["Message-ID"]
    assert first["Subject"] == second["Subject"]
    assert mailbox.recipients == ["ana@example.com", "anna@example.com"]


# --- What the mail server says


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
    [row] = await on_file(mailing_house)
    assert row.error is None


@pytest.mark.parametrize(
    "refusal", [{"refusals": ["550 5.1.1 no such user ana@example.com"]}, {"replies": ["554 5.6.0 not wanted"]}]
)
async def test_a_refusal_for_good_of_address_or_message_is_on_file_told_and_not_tried_again(
    mailing_house: House, activations: Activations, mailbox: Mailbox, refusal: dict[str, list[str]]
) -> None:
    vars(mailbox).update(refusal)
    esim_id = await an_esim(mailing_house, activations)
    before = counted("instructions", "refused")
    with capture_logs() as logs:
        await announce_provisioned(mailing_house, esim_id)
        await announce_provisioned(mailing_house, esim_id)
    assert mailbox.messages == []
    [row] = await on_file(mailing_house)
    assert (row.refused_at is not None, row.sent_at) == (True, None)
    assert row.error.startswith("SMTP")
    assert " 55" in row.error.replace("(", " ")
    assert counted("instructions", "refused") == before + 1
    [line] = [line for line in logs if line["event"] == "mail.refused"]
    assert (line["log_level"], line["esim_id"], line["kind"]) == ("warning", esim_id, "instructions")
    assert "ana@example.com" not in repr((line, row.error))


async def test_without_a_mail_server_the_message_is_a_file_that_only_its_owner_reads(
    house: House, activations: Activations, tmp_path: Path
) -> None:
    here = House(house.settings.model_copy(update={"tribi_data_dir": tmp_path}), house.db, house.keyring, house.vault)
    esim_id = await an_esim(here, activations)
    with capture_logs() as logs:
        await announce_provisioned(here, esim_id)
    [file] = (tmp_path / "mails").iterdir()
    assert file.name == f"esim-{esim_id}-instructions.eml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert message_from_bytes(file.read_bytes(), policy=default)["To"] == "Ana Traveller <ana@example.com>"
    assert [line["file"] for line in logs if line["event"] == "mail.written"] == [str(file)]


async def test_a_code_too_long_for_a_picture_is_sent_for_typing(
    mailing_house: House, activations: Activations, mailbox: Mailbox, supplier: StandIn
) -> None:
    supplier.script("code_very_long")
    esim_id = await an_esim(mailing_house, activations)
    await announce_provisioned(mailing_house, esim_id)
    [message] = mailbox.messages
    assert not [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert "<img" not in text_of(message, "html")


async def test_an_esim_that_is_not_provisioned_is_not_announced(mailing_house: House, mailbox: Mailbox) -> None:
    order_id = await an_order(mailing_house.db)
    async with mailing_house.db.read() as connection:
        esim_id = await connection.scalar(text("SELECT id FROM esim_profiles WHERE order_id = :id"), {"id": order_id})
    assert isinstance(esim_id, int)
    with capture_logs() as logs:
        await announce_provisioned(mailing_house, esim_id)
    assert [(line["event"], line["esim_id"]) for line in logs] == [("esims.announced_before_provisioned", esim_id)]
    assert (mailbox.messages, await on_file(mailing_house)) == ([], [])


async def test_a_message_whose_letter_cannot_be_made_is_written_and_sent_by_the_next_try(
    mailing_house: House, activations: Activations, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    esim_id = await an_esim(mailing_house, activations)

    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as now:
        now.setattr(delivering, "_letter", away)
        with pytest.raises(DatabaseUnavailable):
            await announce_provisioned(mailing_house, esim_id)
    assert await on_file(mailing_house) == []  # nor does a lease keep the next one waiting
    await announce_provisioned(mailing_house, esim_id)
    assert len(mailbox.messages) == 1


# --- Notices


async def a_notice(house: House, esim_id: int, *crossed: str) -> int:
    """Returns the id of the last message that was written."""
    async with house.db.begin() as connection:
        await note_thresholds(connection, esim_id, crossed)
    return int((await on_file(house))[-1].id)


async def test_a_notice_says_what_is_left_and_holds_no_code(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    await changed(
        mailing_house,
        "UPDATE esim_profiles SET plan_state = 'active', data_used_mb = 4096, data_total_mb = 5120",
    )
    await deliver(mailing_house, await a_notice(mailing_house, esim_id, "data_50", "data_80"))
    [message] = mailbox.messages
    assert message["Message-ID"].startswith(f"<esim-{esim_id}-data_80.")
    for kind in ("plain", "html"):
        assert "1 GB of 5 GB left." in text_of(message, kind).replace("\xa0", " ").replace("&nbsp;", " ")
    assert "LPA:" not in message.as_string()


async def test_a_notice_that_has_been_overtaken_is_not_sent(
    mailing_house: House, activations: Activations, mailbox: Mailbox
) -> None:
    esim_id = await an_esim(mailing_house, activations)
    mail_id = await a_notice(mailing_house, esim_id, "data_80")
    async with mailing_house.db.begin() as connection:
        await note_thresholds(connection, esim_id, ("data_80", "data_100"))
    with capture_logs() as logs:
        await deliver(mailing_house, mail_id)
        await deliver(mailing_house, mail_id)
    assert mailbox.messages == []
    assert [line["kind"] for line in logs if line["event"] == "mail.dropped"] == ["data_80"]
    assert [row.kind for row in await on_file(mailing_house)] == ["data_100"]
