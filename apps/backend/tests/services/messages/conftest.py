"""An installation with a mail server, and eSIMs to write of."""

from collections.abc import Iterator

import pytest
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from app.house import House
from tests.mailbox import Mailbox, a_mail_server
from tests.services.esims.conftest import (  # noqa: F401 - fixtures
    activations,
    make_activations,
    provider,
    supplier,
)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def smtp(mailbox: Mailbox) -> Iterator[Controller]:
    with a_mail_server(mailbox) as controller:
        yield controller


@pytest.fixture
def mailing_house(house: House, smtp: Controller) -> House:
    mail = {"smtp_url": SecretStr(f"smtp://127.0.0.1:{smtp.port}"), "mail_from": "shop@example.com"}
    return House(house.settings.model_copy(update=mail), house.db, house.keyring, house.vault)
