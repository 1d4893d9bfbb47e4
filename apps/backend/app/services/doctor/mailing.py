"""The mail server, everything up to the message; and whom it will not have."""

from urllib.parse import urlsplit

from app.house import House
from app.mail import MailNotSent, reach_mail_server
from app.services.doctor.findings import Finding, by_hand, failed, passed
from app.services.esims.undelivered import REFUSED_WITHIN, count_undelivered
from app.settings import Settings


async def check_mail_server(settings: Settings) -> list[Finding]:
    if settings.smtp_url is None:
        detail = "not set: messages to travellers are written as files to `mails` in TRIBI_DATA_DIR"
        return [by_hand("mail-server", detail, "set SMTP_URL and MAIL_FROM (docs/configuration.md)")]
    parts = urlsplit(settings.smtp_url.get_secret_value())
    try:
        agreed = await reach_mail_server(settings)
    except MailNotSent as error:
        to_do = "check SMTP_URL: host, port, user, password; smtp:// wants STARTTLS, smtps:// TLS from the start"
        return [failed("mail-server", f"{parts.hostname} takes no mail from us: {error}", to_do)]
    return [passed("mail-server", f"{parts.hostname}: {agreed}; no message was sent")]


async def check_refused(house: House) -> list[Finding]:
    async with house.db.read() as connection:
        count = await count_undelivered(connection)
    if not count:
        return [passed("mails-refused", f"no traveller was refused in {REFUSED_WITHIN}")]
    detail = f"eSIMs whose message the mail server has refused for good in {REFUSED_WITHIN}: {count}"
    to_do = "tribi esims list --mail-refused (docs/operations/mail-refused.md)"
    return [failed("mails-refused", detail, to_do)]
