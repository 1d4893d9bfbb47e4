"""Activations of this very process, at a stand-in outside of it, with an ear on the wire."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import structlog
from pydantic import SecretStr
from sqlalchemy import select, text

from app.errors import TribiError
from app.house import House
from app.models import EsimProfile, ProvisioningAttempt
from app.services.esim_providers import Answer, EsimProvisioningError, PreparedOrder
from app.services.esim_providers.connected_you.client import ConnectedYou, Line
from app.services.esim_providers.statuses import Exchange
from app.services.esims.activate import Activations
from app.services.esims.errors import ProviderOnHold
from app.services.esims.esim import place_of
from app.services.esims.intent import attempt_place
from app.services.orders.page_links import page_links
from app.services.orders.place import NewOrder, place_order
from app.settings import Settings
from app.vault import Keyring
from tests.builders import a_key, a_plan
from tests.chaos.stage import Stage
from tests.conftest import KEY

API_KEY = "key-of-the-proof"
PARTNER_ID = "partner-of-the-proof"

_LOOK_EVERY_S = 0.05

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Heard:
    """What the wire made of one order: the answer's status and fingerprint (None where there was none), and how long that took."""

    words: tuple[int | None, bytes] | None
    took_s: float


class Overheard:
    """A `Line` that remembers what came over the one behind it."""

    is_live = True

    def __init__(self, line: Line) -> None:
        self._line = line
        self.heard: dict[str, Heard] = {}
        self.longest_nap_s = 0.0

    async def watch_the_loop(self) -> None:
        """Notes how late the loop comes back, until cancelled."""
        while True:
            asked_at = time.monotonic()
            await asyncio.sleep(_LOOK_EVERY_S)
            self.longest_nap_s = max(self.longest_nap_s, time.monotonic() - asked_at - _LOOK_EVERY_S)

    def use_api_key(self, api_key: str) -> None:
        self._line.use_api_key(api_key)

    async def send(self, order: PreparedOrder, may_send: Callable[[], bool]) -> Exchange:
        started = time.monotonic()
        answer: Answer | None = None
        try:
            exchange = await self._line.send(order, may_send)
            answer = exchange.answer
        except EsimProvisioningError as error:
            answer = error.answer
            raise
        else:
            return exchange
        finally:
            self.heard[order.reference] = Heard(_words(answer), time.monotonic() - started)

    async def close(self) -> None:
        await self._line.close()


def _words(answer: Answer | None) -> tuple[int | None, bytes] | None:
    # Not the body itself: bombs would fill the memory that is measured.
    return None if answer is None else (answer.status, hashlib.sha256(answer.body).digest())


@dataclass(frozen=True, slots=True)
class OnFile:
    """How an order stands in the database: `words` is its last attempt's answer, its status and the body's fingerprint."""

    status: str
    code: str | None
    attempts: int
    words: tuple[int | None, bytes] | None


@dataclass
class Desk:
    """Where orders are placed and activated. `crashes`: what ended an activation and is no failure of a supplier's."""

    house: House
    line: Overheard
    activations: Activations
    sku: str
    key_id: int
    crashes: list[str] = field(default_factory=list)

    async def order(self) -> int:
        """A paid one."""
        async with self.house.db.begin() as connection:
            placed = await place_order(
                connection,
                NewOrder(self.sku, "zoe@example.com", "Zoë Traveller", "pay-42"),
                idempotency_key=f"proof-{next(_numbers)}",
                key_id=self.key_id,
                provider="CONNECTED_YOU",
                code_provider="CONNECTED_YOU",
                is_live=True,
                page_links=page_links(self.house),
            )
        return placed.order_id

    async def activate(self, order_id: int) -> None:
        """To its end, whatever that is. Where another order's answer has put the provider on hold, that is lifted."""
        while True:
            try:
                await self.activations.activate(order_id, actor="test")
            except ProviderOnHold:
                await self.let_the_provider_go_on()
                continue
            except EsimProvisioningError:
                pass  # what it is, and what it left, stands in the database
            except TribiError as error:
                self.crashes.append(f"order {order_id}: {type(error).__name__}")
            except Exception as error:  # noqa: BLE001 - it is what the run looks for
                self.crashes.append(f"order {order_id}: {error!r}")
            return

    async def let_the_provider_go_on(self) -> None:
        async with self.house.db.begin() as connection:
            await connection.execute(text("DELETE FROM provider_states"))

    async def on_file(self, order_id: int) -> OnFile:
        vault = self.house.vault
        async with self.house.db.read() as connection:
            profile = (
                await connection.execute(
                    select(EsimProfile.id, EsimProfile.status, EsimProfile.activation_code).where(
                        EsimProfile.order_id == order_id
                    )
                )
            ).one()
            attempts = (
                await connection.execute(
                    select(
                        ProvisioningAttempt.id, ProvisioningAttempt.response_status, ProvisioningAttempt.response_body
                    )
                    .where(ProvisioningAttempt.profile_id == profile.id)
                    .order_by(ProvisioningAttempt.id)
                )
            ).all()
        answer: Answer | None = None
        if attempts and attempts[-1].response_body is not None:
            last = attempts[-1]
            place = attempt_place("response_body", last.id)
            answer = Answer(last.response_status, vault.keyring.open(last.response_body, place))
        code = vault.open_text(profile.activation_code, place_of("activation_code", profile.id))
        return OnFile(profile.status, code, len(attempts), _words(answer))


def house_of(stage: Stage) -> House:
    """The stage's installation as this process sees it."""
    return House(Settings(encryption_key=SecretStr(KEY)), stage.site.db, Keyring.parse(KEY), stage.vault)


@asynccontextmanager
async def a_desk(house: House, supplier_url: str, line: Line, timeout_s: float) -> AsyncIterator[Desk]:
    # Hundreds of failures are the point of these runs: no circuit shall open.
    settings = house.settings.model_copy(update={"provider_circuit_failures": 0})
    house = House(settings, house.db, house.keyring, house.vault)
    overheard = Overheard(line)
    provider = ConnectedYou(PARTNER_ID, API_KEY, supplier_url, overheard)
    activations = Activations(house, provider, timeout_s=timeout_s, wait_s=timeout_s + 60, max_concurrency=1000)
    sku = await a_plan(house.db)
    key_id, _ = await a_key(house.db)
    try:
        yield Desk(house, overheard, activations, sku, key_id)
    finally:
        await activations.drain(timeout_s)
        await provider.close()


@contextmanager
def unforeseen() -> Iterator[list[str]]:
    """Collects what is logged with a traceback or as critical, and what asyncio complains of; all other lines are dropped."""
    found: list[str] = []

    def keep(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("exc_info") or method == "critical":
            found.append(f"logged: {event['event']}")
        raise structlog.DropEvent

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(f"logged by {record.name}: {record.getMessage()}")

    processors = structlog.get_config()["processors"]
    before = list(processors)
    keeper = Keeper(logging.WARNING)
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    processors[:] = [keep]
    logging.getLogger().addHandler(keeper)
    loop.set_exception_handler(lambda _, context: found.append(f"asyncio: {context['message']}"))
    try:
        yield found
    finally:
        loop.set_exception_handler(handler)
        logging.getLogger().removeHandler(keeper)
        processors[:] = before
