"""The message with a sign-in code."""

from datetime import datetime
from email.message import EmailMessage

from app.letterhead import new_message
from app.settings import Settings
from app.traveller import Language, render, texts_in


def code_mail(
    settings: Settings,
    code_id: int,
    code: str,
    *,
    asked_at: datetime,
    to_address: str,
    language: Language,
    minutes: int,
) -> EmailMessage:
    """
    The code doesn't stand in the subject, which mail servers log and locked telephones show.

    Args:
        asked_at: part of its Message-ID, as numbers alone begin at 1 in each installation, and mailboxes show a Message-ID once.
        minutes: for how long the code can be used, from when it was asked for.
    """
    texts = texts_in(language)
    values = {"code": code, "minutes": minutes, "contact": settings.support_contact}
    return new_message(
        settings,
        name=f"sign-in-code-{code_id}.{int(asked_at.timestamp() * 1000):x}",
        to_name=None,
        to_address=to_address,
        subject=texts("sign_in.subject"),
        language=language,
        plain=render("sign_in_code.txt", texts, **values),
        html=render("sign_in_code.html", texts, **values),
    )
