"""Endpoints: a seller's URLs, which events each hears, and the secrets by which it knows us."""

import secrets
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlalchemy import BigInteger, Row, bindparam, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.db import Database
from app.errors import NotFound, TribiError
from app.models import WebhookDelivery, WebhookEndpoint
from app.services.webhooks.events import read_events
from app.values.webhook_url import read_webhook_url
from app.vault import Keyring, Place

MOST_ENDPOINTS = 50
"""So that every process can work for all of them at once."""

BOTH_VALID_FOR = timedelta(hours=24)
"""After a rotation messages are signed with both secrets for so long."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - the beginning of one
_SECRET_BYTES = 32


class TooManyEndpoints(TribiError):
    code = "too-many-webhook-endpoints"
    title = "There are enough webhook endpoints"
    meaning = f"An installation may have {MOST_ENDPOINTS} webhook endpoints. Remove one that nobody needs any more."
    http_status = 409


@dataclass(frozen=True, slots=True)
class Endpoint:
    """As it is shown; its secret isn't, but once. `events`: empty for all."""

    id: int
    url: str = field(repr=False)
    events: tuple[str, ...]
    created_at: datetime
    previous_secret_until: datetime | None
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_because: str | None

    @property
    def is_enabled(self) -> bool:
        return self.disabled_at is None


_PREVIOUS_UNTIL = case((WebhookEndpoint.previous_until > func.now(), WebhookEndpoint.previous_until))
_SHOWN = (
    WebhookEndpoint.id,
    WebhookEndpoint.url,
    WebhookEndpoint.events,
    WebhookEndpoint.created_at,
    _PREVIOUS_UNTIL.label("previous_until"),
    WebhookEndpoint.failing_since,
    WebhookEndpoint.disabled_at,
    WebhookEndpoint.disabled_because,
)
_IN_TURN = select(func.pg_advisory_xact_lock(4817))
_COUNT = select(func.count()).select_from(WebhookEndpoint)
_NEXT_ID = select(func.nextval("webhook_endpoints_id_seq", type_=BigInteger))
_ALL = select(*_SHOWN).order_by(WebhookEndpoint.id.desc())
_of = WebhookEndpoint.id == bindparam("endpoint_id")
_ONE = select(*_SHOWN).where(_of)
_FORGET_FORMER = (
    update(WebhookEndpoint)
    .where(WebhookEndpoint.previous_until < func.now())
    .values(previous_secret=None, previous_until=None)
)


async def add_endpoint(
    connection: AsyncConnection, keyring: Keyring, url: str, events: Sequence[str], *, allow_private: bool, actor: str
) -> tuple[Endpoint, str]:
    """
    Args:
        events: names; none for all.

    Returns:
        The endpoint and its secret, which nobody can see again.

    Raises:
        ValueError: a URL or an event that can't be.
        TooManyEndpoints: there are MOST_ENDPOINTS.
    """
    url, wanted = read_webhook_url(url, allow_private=allow_private), read_events(list(events))
    await connection.execute(_IN_TURN)  # two at once would both find room for one
    if (await connection.scalar(_COUNT) or 0) >= MOST_ENDPOINTS:
        raise TooManyEndpoints
    endpoint_id = (await connection.execute(_NEXT_ID)).scalar_one()
    secret = _new_secret()
    row = (
        await connection.execute(
            insert(WebhookEndpoint)
            .values(id=endpoint_id, url=url, events=wanted, secret=_sealed(keyring, secret, "secret", endpoint_id))
            .returning(*_SHOWN)
        )
    ).one()
    await record(
        connection, actor, Tag.WEBHOOK_ADDED, "webhook_endpoints", endpoint_id, host=_host_of(url), events=wanted
    )
    return _endpoint(row), secret


async def list_endpoints(connection: AsyncConnection) -> list[Endpoint]:
    """Newest first."""
    return [_endpoint(row) for row in await connection.execute(_ALL)]


async def endpoint_by_id(connection: AsyncConnection, endpoint_id: int) -> Endpoint:
    """
    Raises:
        NotFound: there is none.
    """
    return _endpoint(_found((await connection.execute(_ONE, {"endpoint_id": endpoint_id})).one_or_none(), endpoint_id))


async def change_endpoint(
    connection: AsyncConnection,
    endpoint_id: int,
    *,
    allow_private: bool,
    actor: str,
    url: str | None = None,
    events: Sequence[str] | None = None,
    is_enabled: bool | None = None,
) -> Endpoint:
    """
    What is None stays. Whoever is enabled again gets what was pending when it was disabled.

    Raises:
        NotFound: there is none.
        ValueError: a URL or an event that can't be.
    """
    values: dict[str, Any] = {}
    if url is not None:
        values["url"] = read_webhook_url(url, allow_private=allow_private)
    if events is not None:
        values["events"] = read_events(list(events))
    if is_enabled is True:
        values |= {"disabled_at": None, "disabled_because": None, "failing_since": None}
    elif is_enabled is False:
        values |= {
            "disabled_at": func.coalesce(WebhookEndpoint.disabled_at, func.now()),
            "disabled_because": func.coalesce(WebhookEndpoint.disabled_because, "asked"),
        }
    if not values:
        return await endpoint_by_id(connection, endpoint_id)
    row = (
        await connection.execute(
            update(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).values(values).returning(*_SHOWN)
        )
    ).one_or_none()
    endpoint = _endpoint(_found(row, endpoint_id))
    changed = sorted({"url", "events"} & values.keys()) + ([] if is_enabled is None else ["is_enabled"])
    await record(
        connection,
        actor,
        Tag.WEBHOOK_CHANGED,
        "webhook_endpoints",
        endpoint_id,
        changed=changed,
        host=_host_of(endpoint.url),
        events=list(endpoint.events),
        is_enabled=endpoint.is_enabled,
    )
    return endpoint


async def remove_endpoint(connection: AsyncConnection, endpoint_id: int, *, actor: str) -> None:
    """
    With the log of its deliveries.

    Raises:
        NotFound: there is none.
    """
    # Deliveries first: who notes an attempt locks its delivery, then the endpoint.
    await connection.execute(delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id))
    removed = await connection.scalar(
        delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).returning(WebhookEndpoint.url)
    )
    url = _found(removed, endpoint_id)
    await record(connection, actor, Tag.WEBHOOK_REMOVED, "webhook_endpoints", endpoint_id, host=_host_of(url))


async def rotate_secret(
    connection: AsyncConnection, keyring: Keyring, endpoint_id: int, *, actor: str
) -> tuple[Endpoint, str]:
    """
    Makes another secret. For BOTH_VALID_FOR messages are signed with the former one, too; the one before that ends now.

    Returns:
        The endpoint and its new secret, which nobody can see again.

    Raises:
        NotFound: there is none.
    """
    lock = select(WebhookEndpoint.secret).where(WebhookEndpoint.id == endpoint_id).with_for_update()
    sealed = _found(await connection.scalar(lock), endpoint_id)
    former = keyring.open(sealed, place_of("secret", endpoint_id)).decode()
    secret = _new_secret()
    row = (
        await connection.execute(
            update(WebhookEndpoint)
            .where(WebhookEndpoint.id == endpoint_id)
            .values(
                secret=_sealed(keyring, secret, "secret", endpoint_id),
                previous_secret=_sealed(keyring, former, "previous_secret", endpoint_id),
                previous_until=func.now() + BOTH_VALID_FOR,
            )
            .returning(*_SHOWN)
        )
    ).one()
    await record(connection, actor, Tag.WEBHOOK_SECRET_ROTATED, "webhook_endpoints", endpoint_id)
    return _endpoint(row), secret


async def forget_former_secrets(db: Database) -> None:
    """Those that are no longer valid."""
    async with db.begin() as connection:
        await connection.execute(_FORGET_FORMER)


SECRETS = (
    WebhookEndpoint.secret,
    case((WebhookEndpoint.previous_until > func.now(), WebhookEndpoint.previous_secret)).label("previous_secret"),
)
"""For `opened`."""


def place_of(column: Literal["secret", "previous_secret"], endpoint_id: int) -> Place:
    """Where a sealed column of an endpoint stands."""
    return Place(WebhookEndpoint.__tablename__, column, endpoint_id)


def opened(keyring: Keyring, endpoint_id: int, secret: bytes, previous: bytes | None) -> tuple[str, ...]:
    """The secrets that are valid now, the newer one first."""
    newer = keyring.open(secret, place_of("secret", endpoint_id)).decode()
    if previous is None:
        return (newer,)
    return newer, keyring.open(previous, place_of("previous_secret", endpoint_id)).decode()


def _new_secret() -> str:
    return SECRET_PREFIX + b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _sealed(keyring: Keyring, secret: str, column: Literal["secret", "previous_secret"], endpoint_id: int) -> bytes:
    return keyring.seal(secret.encode(), place_of(column, endpoint_id))


def _host_of(url: str) -> str | None:
    return urlsplit(url).hostname


def _found(found: Any, endpoint_id: int) -> Any:  # noqa: ANN401 - a row, or a column of it
    if found is None:
        raise NotFound(f"there is no webhook endpoint {endpoint_id}")
    return found


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(
        row.id,
        row.url,
        tuple(row.events),
        row.created_at,
        row.previous_until,
        row.failing_since,
        row.disabled_at,
        row.disabled_because,
    )
