"""What stands in the notices, and when one is too late."""

from datetime import UTC, datetime

import pytest

from app.models.mail import NOTICES
from app.services.messages.notices import is_still_true, notice_mail
from app.traveller import LANGUAGES, Language, texts_in
from tests.letters import PAGE, a_letter, shop_settings
from tests.mailbox import text_of

EXPIRES_AT = datetime(2026, 11, 30, 14, 5, tzinfo=UTC)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", NOTICES)
def test_a_notice_says_what_is_the_matter_what_happens_then_and_where_to_look(kind: str, language: Language) -> None:
    texts = texts_in(language)
    letter = a_letter(kind, locale=language, is_live=False, data_used_mb=4096.0, data_total_mb=5120.0)
    message = notice_mail(shop_settings(), letter, expires_at=EXPIRES_AT)
    assert message["Subject"] == f"TEST: {texts(f'notice.{kind}.subject', plan='Spain 5GB')}"
    facts = {
        "data_80": texts("notice.left", left=texts.data(1024, of_mb=5120), total=texts.data(5120)),
        "data_100": texts("notice.data_100.then"),
        "expires_24h": texts("notice.expires_24h.until", instant=texts.instant(EXPIRES_AT)),
    }
    for part in ("plain", "html"):
        shown = text_of(message, part)
        for text in (
            texts("test.notice"),
            texts(f"notice.{kind}.news", plan="Spain 5GB"),
            texts(f"notice.{kind}.then"),
            facts[kind],
            texts("notice.no_charges"),
            PAGE,
        ):
            assert text in shown
    assert "LPA:" not in message.as_string()
    assert "A1B2" not in message.as_string()


def test_where_the_numbers_are_not_known_none_are_told() -> None:
    for kind in NOTICES:
        message = notice_mail(shop_settings(), a_letter(kind), expires_at=None)
        assert "None" not in text_of(message, "plain")
        assert "left." not in text_of(message, "plain").replace("left of it", "")


@pytest.mark.parametrize(
    ("kind", "plan_state", "crossed", "is_over", "is_true"),
    [
        ("data_80", "active", {"data_50", "data_80"}, False, True),
        ("data_80", None, {"data_80"}, False, True),
        ("data_80", "active", {"data_80", "data_100"}, False, False),
        ("data_80", "depleted", {"data_80"}, False, False),
        ("data_80", "terminated", {"data_80"}, False, False),
        ("data_80", "active", {"data_80"}, True, False),
        ("data_100", "depleted", {"data_80", "data_100"}, False, True),
        ("data_100", "expired", {"data_100"}, False, False),
        ("expires_24h", "active", {"data_80", "expires_24h"}, False, True),
        ("expires_24h", "active", {"data_100", "expires_24h"}, False, False),
        ("expires_24h", "active", {"expires_24h"}, True, False),
    ],
)
def test_a_notice_is_sent_while_what_it_says_is_so(
    kind: str, plan_state: str | None, crossed: set[str], is_over: bool, is_true: bool
) -> None:
    assert is_still_true(a_letter(kind, plan_state=plan_state), crossed, is_over=is_over) is is_true
