"""The mail server: everything up to the message."""

from urllib.parse import urlsplit

from app.mail import MailNotSent, reach_mail_server
from app.services.doctor.findings import Finding, by_hand, failed, passed
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
