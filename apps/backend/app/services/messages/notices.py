"""The messages at a threshold: data runs low, data is used up, the plan ends. None of them holds the activation code."""

from collections.abc import Collection
from datetime import datetime
from email.message import EmailMessage

from app.services.esims.thresholds import EXPIRES_SOON
from app.services.messages.letter import Letter, texts_for, write
from app.settings import Settings
from app.traveller import Texts


def is_still_true(letter: Letter, crossed: Collection[str], *, is_over: bool) -> bool:
    """
    Whether a notice is worth sending by now: a mail server may have been away for a day.

    Args:
        letter: of one of NOTICES.
        crossed: the eSIM's thresholds so far.
        is_over: whether the plan's days are.
    """
    if is_over or letter.esim.plan_state in ("expired", "terminated"):
        return False
    return letter.kind == "data_100" or ("data_100" not in crossed and letter.esim.plan_state != "depleted")


def notice_mail(settings: Settings, letter: Letter, *, expires_at: datetime | None) -> EmailMessage:
    """
    Args:
        letter: of one of NOTICES.
        expires_at: when the plan ends, None where that isn't known.
    """
    texts = texts_for(letter.order, settings)
    key = f"notice.{letter.kind}"
    return write(
        settings,
        letter,
        texts,
        subject=texts(f"{key}.subject", plan=letter.plan),
        template="mail_notice",
        news=texts(f"{key}.news", plan=letter.plan),
        fact=_fact(letter, texts, expires_at),
        then=texts(f"{key}.then"),
    )


def _fact(letter: Letter, texts: Texts, expires_at: datetime | None) -> str | None:
    """The number that somebody wants to know, where we do."""
    if letter.kind == EXPIRES_SOON:
        return None if expires_at is None else texts("notice.expires_24h.until", instant=texts.instant(expires_at))
    used_mb, total_mb = letter.esim.data_used_mb, letter.esim.data_total_mb
    if letter.kind == "data_100" or used_mb is None or not total_mb:
        return None
    left = texts.data(max(total_mb - used_mb, 0), of_mb=total_mb)
    return texts("notice.left", left=left, total=texts.data(total_mb))
