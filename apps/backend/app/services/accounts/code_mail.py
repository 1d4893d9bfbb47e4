"""The message with a sign-in code."""

from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, localtime

from app.traveller import Language, render, texts_in
from app.values.email_address import ascii_email


def code_mail(
    code_id: int, code: str, *, to_address: str, sender: str, language: Language, minutes: int
) -> EmailMessage:
    """
    The code doesn't stand in the subject, which mail servers log and locked telephones show.

    Args:
        sender: the address it comes from; its domain stands in the Message-ID, which is the same each time.
        minutes: for how long the code can be used, from when it was asked for.
    """
    texts = texts_in(language)
    message = EmailMessage()
    message["Subject"] = texts("sign_in.subject")
    message["From"] = sender
    message["To"] = Address(addr_spec=ascii_email(to_address))
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = f"<sign-in-code-{code_id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(render("sign_in_code.txt", texts, code=code, minutes=minutes))
    message.add_alternative(render("sign_in_code.html", texts, code=code, minutes=minutes), subtype="html")
    message["Content-Language"] = language  # after the content, which takes such headers away
    return message
