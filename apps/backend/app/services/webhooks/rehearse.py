"""A rehearsal: an example of an event, sent to an endpoint now and once. It is in no log, and nothing has happened."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import bindparam, select

from app.errors import NotFound
from app.house import House
from app.models import WebhookEndpoint
from app.services.webhooks.endpoints import SECRETS, opened
from app.services.webhooks.events import KINDS, example_of
from app.services.webhooks.line import Answer, Line, Message
from app.services.webhooks.payload import body_of

_ONE = select(WebhookEndpoint.id, WebhookEndpoint.url, *SECRETS).where(WebhookEndpoint.id == bindparam("endpoint_id"))


@dataclass(frozen=True, slots=True)
class Rehearsal:
    endpoint_id: int
    message_id: str
    body: str
    answer: Answer


async def rehearse(house: House, endpoint_id: int, kind: str, *, line: Line) -> Rehearsal:
    """
    Sends the example of an event, with `"test": true` in its data and not live, to an endpoint, be it disabled or not.

    Args:
        kind: one of KINDS.

    Raises:
        NotFound: there is no such endpoint.
    """
    async with house.db.read() as connection:
        row = (await connection.execute(_ONE, {"endpoint_id": endpoint_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no webhook endpoint {endpoint_id}")
    message = Message(
        f"msg_test_{secrets.token_hex(12)}",
        row.url,
        body_of(kind, datetime.now(UTC), example_of(KINDS[kind]) | {"is_live": False, "test": True}),
        opened(house.keyring, row.id, row.secret, row.previous_secret),
    )
    return Rehearsal(endpoint_id, message.message_id, message.body, await line.post(message))
