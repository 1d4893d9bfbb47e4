"""What all messages about an eSIM have in common: whom they are for, in which language, and their head."""

from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage

from app.letterhead import greeted_name, new_message, one_line
from app.mime_parts import Picture
from app.services.esims.esim import Esim
from app.services.orders.show import OrderView
from app.settings import Settings
from app.traveller import Texts, choose_language, render, texts_in


@dataclass(frozen=True, slots=True)
class Letter:
    """
    A message that is written down, and what it is about.

    Attributes:
        kind, number, written_at: of its row. They make its name, which is the same each time that it is sent.
        page_url: of the eSIM's install page, None where there is none.
    """

    kind: str
    number: int
    written_at: datetime
    esim: Esim
    order: OrderView
    page_url: str | None

    @property
    def name(self) -> str:
        """`esim-3-instructions.<when>`: numbers alone begin at 1 in each installation, and mailboxes show a Message-ID once."""
        numbered = f"{self.kind}-{self.number}" if self.number else self.kind
        return f"esim-{self.esim.id}-{numbered}.{int(self.written_at.timestamp() * 1000):x}"

    @property
    def plan(self) -> str:
        """The plan's name as it was sold, on one line."""
        return one_line(self.order.plan_snapshot["name"])


def texts_for(order: OrderView, settings: Settings) -> Texts:
    """In the customer's language; the installation's own where they didn't say, or we have no texts in it."""
    return texts_in(choose_language(settings.default_language, wish=order.customer_locale))


def write(
    settings: Settings,
    letter: Letter,
    texts: Texts,
    *,
    subject: str,
    template: str,
    picture: Picture | None = None,
    **values: object,
) -> EmailMessage:
    """The message in both parts, which say the same; the HTML shows the picture."""
    if not letter.esim.is_live:
        subject = f"{texts('test.word')}: {subject}"
    values |= {
        "subject": one_line(subject),
        "is_test": not letter.esim.is_live,
        "name": greeted_name(letter.order.customer_name),
        "plan": letter.plan,
        "page_url": letter.page_url,
        "contact": settings.support_contact,
        "order_id": letter.order.id,
        "picture": picture,
    }
    return new_message(
        settings,
        name=letter.name,
        to_name=letter.order.customer_name,
        to_address=letter.order.customer_email,
        subject=subject,
        language=texts.language,
        plain=render(f"{template}.txt", texts, **values),
        html=render(f"{template}.html", texts, **values),
        picture=picture,
    )
