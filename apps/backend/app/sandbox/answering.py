"""POST /partners/orders: read, issued or not, written into the ledger, and only then answered, as the plan code asks."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from app.sandbox import issuing
from app.sandbox.behaviours import LONGEST_SILENCE_S, WELL, Forced, NoSuchBehaviour, Repeats, Reply, forced_by
from app.sandbox.issuing import Esim
from app.sandbox.ledger import Ledger
from app.sandbox.orders import PartnerOrder, Refused, read_order

_HANG_UP_SEEN_WITHIN_S = 0.2

_PAGE = "<!doctype html><title>Maintenance</title><h1>We will be right back</h1>"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Decision:
    """What becomes of an order."""

    forced: Forced
    esim: Esim | None = None
    is_billed: bool = False
    refused: Refused | None = None

    @property
    def in_words(self) -> str:
        behaviour = self.forced.behaviour
        if self.refused is not None:
            return f"{self.refused.status} {self.refused.code}"
        if behaviour.reply in (Reply.ESIM, Reply.UNUSABLE, Reply.HTML):
            return f"{behaviour.status} {behaviour.reply}"
        return str(behaviour.reply)


class Counter:
    """Where orders are taken."""

    def __init__(self, ledger: Ledger, repeats: Repeats) -> None:
        self._ledger = ledger
        self._repeats = repeats

    async def take(self, request: web.Request) -> web.StreamResponse:
        """The handler."""
        body = await request.read()
        try:
            order = read_order(request.headers, body)
        except Refused as refused:
            self._enter_refused(refused)
            return error_reply(refused)
        earlier = self._ledger.of(order.order_reference)
        bought = [entry for entry in earlier if entry.is_billed]
        decision = self._decide(order, len(earlier), [entry.esim for entry in bought if entry.esim is not None])
        code = order.plan_code if decision.forced.behaviour is not WELL else None
        self._ledger.enter(
            order_reference=order.order_reference,
            plan_code=order.plan_code,
            plan_name=order.metadata.plan_name,
            country_iso2=order.country_iso2,
            behaviour=code,
            answer=decision.in_words,
            is_billed=decision.is_billed,
            is_repeat=bool(bought),
            esim=decision.esim,
        )
        log.info(
            "sandbox.order",
            order_reference=order.order_reference,
            plan_code=order.plan_code,
            answer=decision.in_words,
            is_billed=decision.is_billed,
            is_repeat=bool(bought),
        )
        return await self._reply(request, order, decision)

    def _decide(self, order: PartnerOrder, requests_before: int, bought: list[Esim]) -> _Decision:
        well = Forced(WELL, 0)
        try:
            forced = forced_by(order.plan_code) or well
        except NoSuchBehaviour as error:
            return _Decision(well, refused=Refused(404, "unknown_plan", str(error)))
        if forced.is_once and requests_before:
            forced = well
        if bought and self._repeats is Repeats.REFUSE:
            return _Decision(forced, refused=Refused(409, "repeated_reference", "This orderReference was used before."))
        behaviour = forced.behaviour
        refused = _refusal(forced) if behaviour.reply is Reply.ERROR else None
        if not behaviour.is_issued:
            return _Decision(forced, refused=refused)
        if bought and self._repeats is Repeats.REPLAY:
            return _Decision(forced, bought[0], refused=refused)
        esim = issuing.issue(order.order_reference, order.plan_code, len(bought) + 1)
        altered = {"ODD": issuing.odd, "CONFIRMATION": issuing.with_confirmation_code}.get(behaviour.name)
        return _Decision(forced, altered(esim) if altered else esim, is_billed=True, refused=refused)

    def _enter_refused(self, refused: Refused) -> None:
        nothing = dict.fromkeys(("order_reference", "plan_code", "plan_name", "country_iso2", "behaviour", "esim"))
        words = f"{refused.status} {refused.code}: {refused}"
        self._ledger.enter(**nothing, answer=words, is_billed=False, is_repeat=False)
        log.info("sandbox.request_refused", status=refused.status, code=refused.code)

    async def _reply(self, request: web.Request, order: PartnerOrder, decision: _Decision) -> web.StreamResponse:
        behaviour = decision.forced.behaviour
        if behaviour.name == "SLOW":
            await asyncio.sleep(decision.forced.argument)
        if decision.refused is not None:
            headers = {"Retry-After": str(decision.forced.argument)} if behaviour.name == "RATE-LIMITED" else {}
            return error_reply(decision.refused, headers)
        if behaviour.reply is Reply.SILENCE:
            await _until_they_hang_up(request)
        if behaviour.reply in (Reply.NOTHING, Reply.SILENCE) or decision.esim is None:
            _close(request)
            return web.Response()
        if behaviour.reply is Reply.HTML:
            return web.Response(text=_PAGE, content_type="text/html")
        answer = _altered(behaviour.name, issuing.answer(order.order_reference, decision.esim))
        if behaviour.reply is Reply.HALF:
            return await _half(request, json.dumps(answer).encode())
        return web.json_response(answer, status=behaviour.status)


def error_reply(refused: Refused, headers: dict[str, str] | None = None) -> web.Response:
    """The draft doesn't say how an error looks; this is the sandbox's own form."""
    error = {"error": {"code": refused.code, "message": str(refused)}}
    return web.json_response(error, status=refused.status, headers=headers)


def _refusal(forced: Forced) -> Refused:
    behaviour = forced.behaviour
    if behaviour.name.startswith("ERROR"):
        return Refused(forced.argument, "server_error", "This error was asked for by the plan code.")
    return Refused(behaviour.status, behaviour.code, "This refusal was asked for by the plan code.")


def _altered(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    data = answer["data"]
    if name == "NO-CODE":
        del data["activationCode"], data["qrCode"]
    elif name == "OTHER-ORDER":
        data["orderReference"] += "0"
    elif name == "MINIMAL":
        del data["iccid"], data["qrCode"], data["instructions"]
    return answer


async def _half(request: web.Request, body: bytes) -> web.StreamResponse:
    """Says how long the answer is, and sends the first half of it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _close(request)
    return response


async def _until_they_hang_up(request: web.Request) -> None:
    for _ in range(int(LONGEST_SILENCE_S / _HANG_UP_SEEN_WITHIN_S)):
        if request.transport is None or request.transport.is_closing():
            return
        await asyncio.sleep(_HANG_UP_SEEN_WITHIN_S)


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
