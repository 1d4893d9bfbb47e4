"""
Control from another process: JSON over HTTP, under /_stand_in/ on the stand-in's own port.

    GET  state                     counts, settings, faults met, violations
    GET  ledger                    what was issued
    GET  requests?since=SEQ        requests received after number SEQ (bodies as text)
    GET  faults                    the table of faults
    GET  wait?requests=N&held=N&hanging=N&timeout_s=S
                                   answers with `state` once all hold, 408 when they don't in time
    POST script                    {"faults": ["hang_after", {"status": 418, "body": "…", "headers": {}}],
                                    "reference": "order-5"}; an object holds what `respond` takes, `raw` as Latin-1
    POST scripts                   {"order-5": ["hang_after"], "order-6": ["status_429"]}: the same for many references
    POST clear                     drops what is scripted
    POST schedule                  {"seed": 1, "weights": {"none": 9, "close_after": 1}}
    POST release                   {"count": 1, "then": "status_500_after"}
    POST settings                  {"latency_s": 0.1, "dedupe": true, …}, see SETTINGS
    POST refuse                    {"for_s": 2}: no new connections for so long

Admin requests and connections are counted nowhere, and no fault strikes them, save that a scripted
`…_on_accept` strikes the next connection, whoever makes it.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.stand_in.faults import TABLE, Fault, respond
from tests.stand_in.wire import Connection, frame

if TYPE_CHECKING:
    from tests.stand_in.server import StandIn

PREFIX = "/_stand_in/"
SETTINGS = ("latency_s", "dedupe", "close_idle_after_s", "close_after_answer", "redirect_to", "api_key")


async def answer(stand_in: StandIn, connection: Connection, method: str, target: str, body: bytes) -> None:
    """Answer one admin request; whatever is wrong with it is said in a 400."""
    parts = urlsplit(target)
    word = parts.path.removeprefix(PREFIX)
    status, reply = 200, object()
    try:
        if method == "POST":
            _post(stand_in, word, json.loads(body or b"{}"))
            reply = state(stand_in)
        else:
            reply = await _get(stand_in, word, dict(parse_qsl(parts.query)))
    except LookupError as error:
        status, reply = 404, {"error": f"no such thing: {error}"}
    except TimeoutError:
        status, reply = 408, state(stand_in)
    except (ValueError, TypeError) as error:
        status, reply = 400, {"error": str(error)}
    await connection.send(frame(status, json.dumps(reply)))


def state(stand_in: StandIn) -> dict[str, Any]:
    return {
        "requests": stand_in.request_count,
        "connections": stand_in.connections,
        "issued": len(stand_in.issued),
        "held": stand_in.held,
        "hanging": stand_in.hanging,
        "scripted": stand_in.choice.scripted,
        "faults": stand_in.fault_counts,
        "violations": stand_in.violations,
        "seed": stand_in.choice.seed,
        "weights": stand_in.choice.weights,
        "settings": {name: getattr(stand_in, name) for name in SETTINGS if name != "api_key"},
    }


async def _get(stand_in: StandIn, word: str, query: dict[str, str]) -> object:
    if word == "state":
        return state(stand_in)
    if word == "ledger":
        return [dataclasses.asdict(issued) for issued in stand_in.issued]
    if word == "requests":
        since = int(query.get("since", "0"))
        kept = [dataclasses.asdict(request) for request in stand_in.requests if request.seq > since]
        return [request | {"body": request["body"].decode("utf-8", "replace")} for request in kept]
    if word == "faults":
        return {
            fault.name: {"says": fault.says, "issues": fault.issues, "seen": fault.seen} for fault in TABLE.values()
        }
    if word == "wait":
        timeout_s = float(query.pop("timeout_s", "10"))
        wanted = {name: int(count) for name, count in query.items()}
        await stand_in.wait_until(
            lambda: all(state(stand_in)[name] >= count for name, count in wanted.items()), timeout_s
        )
        return state(stand_in)
    raise LookupError(word)


def _responding(said: dict[str, Any]) -> Fault:
    raw = said.pop("raw", None)
    return respond(**said, raw=None if raw is None else raw.encode("latin-1"))


def _faults(said: list[Any]) -> list[str | Fault]:
    return [one if isinstance(one, str) else _responding(one) for one in said]


def _post(stand_in: StandIn, word: str, said: dict[str, Any]) -> None:
    if word == "script":
        stand_in.script(*_faults(said["faults"]), reference=said.get("reference"))
    elif word == "scripts":
        for reference, faults in said.items():
            stand_in.script(*_faults(faults), reference=reference)
    elif word == "clear":
        stand_in.choice.clear_script()
    elif word == "schedule":
        stand_in.choice.schedule(said.get("seed", stand_in.choice.seed), said.get("weights", {}))
    elif word == "release":
        stand_in.release(said.get("count"), said.get("then"))
    elif word == "settings":
        for name in said:
            if name not in SETTINGS:
                raise LookupError(name)
        for name, value in said.items():
            setattr(stand_in, name, value)
    elif word == "refuse":
        stand_in.refuse_for(float(said.get("for_s", 1.0)))
    else:
        raise LookupError(word)
