"""The stand-in keeps its own promises: without that, no test that leans on it says anything."""

import asyncio
import gzip
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.stand_in import Seen, StandIn, read_ledger, respond
from tests.stand_in.certificates import Certificates
from tests.stand_in.contract import draft_contract
from tests.stand_in.elsewhere import StandInChild, stand_in_thread
from tests.stand_in.faults import TABLE, Fault, UnknownFaultError
from tests.stand_in.issuing import luhn_digit
from tests.stand_in.raw_client import NothingError, NotWellFramedError, RawClient, order_bytes

# Rows whose default would make the test slow, and what makes them quick.
QUICK = {
    "slow_before": "0.01",
    "slow_after": "0.01",
    "drip_good": "0",
    "drip_head_before": "0",
    "drip_head_after": "0",
    "drip_body_before": "0",
    "drip_body_after": "0",
    "gzip_bomb_big_before": "2",
    "gzip_bomb_big_after": "2",
    "gzip_bomb_twice_before": "2",
    "gzip_bomb_twice_after": "2",
}


def an_order(number: int = 1, *, plan_code: str = "CY-ES-5GB") -> dict[str, Any]:
    return {
        "partnerId": "partner-1",
        "orderReference": f"order-{number}",
        "planCode": plan_code,
        "countryIso2": "ES",
        "quantity": 1,
        "customer": {"email": "traveller@example.com", "name": "Test Traveller"},
        "metadata": {"order_id": number, "plan_name": "Spain 5GB"},
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
async def stand_in(ledger: Path) -> AsyncIterator[StandIn]:
    async with StandIn(ledger=ledger) as started:
        yield started


# --- the good path


async def test_a_good_answer_keeps_the_contract(stand_in: StandIn) -> None:
    async with RawClient(stand_in.url) as client:
        answer = await client.order(an_order(7))
    assert answer.status == 200
    assert draft_contract().answer_breaches(answer.json()) == []
    data = answer.json()["data"]
    assert data["orderReference"] == "order-7"
    assert re.fullmatch(r"LPA:1\$[A-Z0-9.-]+\$[A-Z0-9-]+", data["activationCode"])
    assert data["qrCode"] == data["activationCode"]
    assert re.fullmatch("[0-9]{19}", data["iccid"])
    assert luhn_digit(data["iccid"][:-1]) == data["iccid"][-1]
    assert stand_in.violations == []


def test_the_check_digit_is_that_of_a_known_number() -> None:
    assert luhn_digit("7992739871") == "3"


async def test_the_ledger_has_the_line_when_the_answer_arrives(stand_in: StandIn, ledger: Path) -> None:
    async with RawClient(stand_in.url) as client:
        for number in range(1, 20):
            answer = await client.order(an_order(number))
            line = read_ledger(ledger)[-1]
            assert line.activation_code == answer.json()["data"]["activationCode"]
            assert (line.reference, line.plan_code, line.seq) == (f"order-{number}", "CY-ES-5GB", number)


async def test_a_line_of_the_ledger_is_json_with_six_members(stand_in: StandIn, ledger: Path) -> None:
    async with RawClient(stand_in.url) as client:
        await client.order(an_order())
    lines = (await asyncio.to_thread(ledger.read_text)).splitlines()
    members = {"reference", "activation_code", "iccid", "plan_code", "at", "seq"}
    assert [set(json.loads(line)) for line in lines] == [members]


async def test_the_ledger_has_the_line_before_the_answer_leaves(stand_in: StandIn, ledger: Path) -> None:
    stand_in.script("hold_after")
    async with RawClient(stand_in.url) as client:
        await client.send(order_bytes(an_order()))
        await stand_in.wait_until_held(1)
        assert [issued.reference for issued in read_ledger(ledger)] == ["order-1"]
        stand_in.release()
        assert (await client.answer()).status == 200


async def test_a_ledger_is_gone_on_with_and_loses_its_torn_line(ledger: Path) -> None:
    for _ in range(2):
        async with StandIn(ledger=ledger) as stand_in, RawClient(stand_in.url) as client:
            await client.order(an_order())
        with ledger.open("ab") as file:
            file.write(b'{"reference": "order-1", "activ')
    codes = [issued.activation_code for issued in read_ledger(ledger)]
    assert len(set(codes)) == 2
    assert [issued.seq for issued in read_ledger(ledger)] == [1, 2]


async def test_a_repeated_reference_buys_a_second_esim(stand_in: StandIn) -> None:
    async with RawClient(stand_in.url) as client:
        first, second = [(await client.order(an_order())).json()["data"] for _ in range(2)]
    assert first["activationCode"] != second["activationCode"]
    assert first["iccid"] != second["iccid"]
    assert len(stand_in.issued_for("order-1")) == 2


async def test_with_dedupe_a_repeated_reference_gets_the_first_esim_again(ledger: Path) -> None:
    async with StandIn(ledger=ledger, dedupe=True) as stand_in, RawClient(stand_in.url) as client:
        first, second = [(await client.order(an_order())).json() for _ in range(2)]
    assert first == second
    assert len(read_ledger(ledger)) == 1


async def test_requests_and_connections_are_recorded(stand_in: StandIn) -> None:
    async with RawClient(stand_in.url) as client:
        await client.order(an_order(1), key="key-1")
        await client.order(an_order(2))
    async with RawClient(stand_in.url) as client:
        await client.order(an_order(3))
    assert stand_in.connections == 2
    assert [request.connection for request in stand_in.requests] == [1, 1, 2]
    first = stand_in.requests_for("order-1")[0]
    assert (first.method, first.path, first.headers["x-api-key"]) == ("POST", "/partners/orders", "key-1")
    assert first.json() == an_order(1)
    assert (first.seq, first.fault, first.ended) == (1, "none", "answered")


async def test_more_requests_than_are_kept_are_still_counted() -> None:
    async with StandIn(keep_requests=1) as stand_in, RawClient(stand_in.url) as client:
        for number in range(1, 4):
            await client.order(an_order(number))
    assert (len(stand_in.requests), stand_in.request_count) == (1, 3)


async def test_an_aiohttp_client_is_served_on_one_connection(stand_in: StandIn) -> None:
    async with aiohttp.ClientSession(headers={"x-api-key": "a-key"}) as session:
        for number in range(1, 4):
            async with session.post(f"{stand_in.url}/partners/orders", json=an_order(number)) as answer:
                assert answer.status == 200
    assert (stand_in.connections, stand_in.violations) == (1, [])


async def test_a_chunked_request_is_read(stand_in: StandIn) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in re.findall(b".{1,20}", json.dumps(an_order()).encode()):
            yield piece

    headers = {"x-api-key": "a-key", "content-type": "application/json", "expect": "100-continue"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{stand_in.url}/partners/orders", data=pieces()) as answer,
    ):
        assert answer.status == 200
    assert stand_in.violations == []


# --- requests that break the contract


@pytest.mark.parametrize(
    "change",
    [
        {"partnerId": ""},
        {"orderReference": "123"},
        {"orderReference": "order-0"},
        {"countryIso2": "es"},
        {"quantity": 2},
        {"quantity": "1"},
        {"customer": {"email": "no address", "name": "T"}},
        {"customer": {"email": "a@example.com"}},
        {"customer": {"email": "a@example.com", "name": "T", "phone": "1"}},
        {"metadata": {"order_id": "1", "plan_name": "x"}},
        {"metadata": {"order_id": 1}},
        {"planCode": None},
        {"unknown": 1},
    ],
    ids=str,
)
async def test_an_order_that_breaks_the_contract_is_refused_and_recorded(
    stand_in: StandIn, change: dict[str, Any]
) -> None:
    stand_in.script("status_500_after")
    async with RawClient(stand_in.url) as client:
        answer = await client.order(an_order() | change)
    assert answer.status == 400
    assert len(stand_in.violations) >= 1
    assert answer.json()["breaches"] == stand_in.violations
    assert (stand_in.issued, stand_in.choice.scripted) == ([], 1)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps(an_order()), "text/plain"),
        (json.dumps(an_order())[:-1], "application/json"),
        (json.dumps(an_order())[:-1] + ', "quantity": 1}', "application/json"),
        (json.dumps(an_order()).replace('"quantity": 1', '"quantity": NaN'), "application/json"),
        ("[]", "application/json"),
        ("", "application/json"),
    ],
    ids=["media type", "cut", "a key twice", "NaN", "list", "empty"],
)
async def test_a_body_that_is_no_order_is_refused_and_recorded(stand_in: StandIn, body: str, content_type: str) -> None:
    head = f"POST /partners/orders HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\nContent-Type: {content_type}\r\n"
    async with RawClient(stand_in.url) as client:
        await client.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        assert (await client.answer()).status == 400
    assert len(stand_in.violations) == 1


async def test_other_operations_are_violations(stand_in: StandIn) -> None:
    async with RawClient(stand_in.url) as client:
        await client.send(b"GET /partners/orders HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer()).status == 405
        await client.send(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer()).status == 404
    assert len(stand_in.violations) == 2


@pytest.mark.parametrize("data", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
async def test_bytes_that_are_no_request_are_violations(stand_in: StandIn, data: bytes) -> None:
    async with RawClient(stand_in.url) as client:
        await client.send(data)
        assert (await client.answer()).status == 400
        assert await client.rest() == b""
    assert len(stand_in.violations) == 1


async def test_a_wrong_key_is_refused() -> None:
    async with StandIn(api_key="right") as stand_in, RawClient(stand_in.url) as client:
        assert (await client.order(an_order(), key="wrong")).status == 401
        assert stand_in.violations == []
        assert (await client.order(an_order(), key="")).status == 401
        assert stand_in.violations == ["no x-api-key"]
        assert (await client.order(an_order(), key="right")).status == 200


# --- the table of faults


def test_the_table_is_large_enough_for_the_hostile_supplier() -> None:
    assert len(TABLE) >= 120


@pytest.mark.parametrize("fault", TABLE.values(), ids=TABLE)
async def test_each_fault_does_what_the_table_says(stand_in: StandIn, ledger: Path, fault: Fault) -> None:
    async with RawClient(stand_in.url) as client:
        await client.order(an_order(1))
    stand_in.script(fault.with_arg(QUICK.get(fault.name, "")))
    async with RawClient(stand_in.url) as client:
        await _check_seen(stand_in, client, fault)
    await stand_in.wait_until(lambda: stand_in.open_connections == 0)
    assert stand_in.fault_counts[fault.name] == 1 + (fault.name == "none")
    assert len(stand_in.issued_for("order-2")) == fault.issues
    assert read_ledger(ledger) == stand_in.issued
    assert stand_in.violations == []


async def _check_seen(stand_in: StandIn, client: RawClient, fault: Fault) -> None:
    """Told by bytes and by what the stand-in says it does, never by the clock."""
    order = order_bytes(an_order(2))
    match fault.seen:
        case Seen.ANSWER:
            await client.send(order)
            assert (await client.answer()).status == fault.status
        case Seen.BROKEN:
            await client.send(order)
            with pytest.raises((NotWellFramedError, ConnectionError)):
                await client.only_answer()
        case Seen.CLOSED:
            await client.send(order)
            with pytest.raises(NothingError):
                await client.answer()
        case Seen.RESET:
            with pytest.raises(ConnectionError):
                await client.order(an_order(2))
        case Seen.SILENCE | Seen.STALLED:
            await client.send(order)
            await stand_in.wait_until(lambda: stand_in.hanging + stand_in.held == 1)
            # It has sent all that it will. We leave, it closes, and what came until then is what there was.
            client.leave()
            stand_in.release(then="close_before")
            assert bool(await client.rest()) == (fault.seen == Seen.STALLED)
        case Seen.ENDLESS:
            await client.send(order)
            assert len(await client.reader.readexactly(300)) == 300


async def test_an_odd_code_is_on_the_ledger_as_it_was_sold(stand_in: StandIn, ledger: Path) -> None:
    odd = [fault for fault in TABLE.values() if fault.code_of]
    stand_in.script(*odd)
    async with RawClient(stand_in.url) as client:
        for number in range(1, len(odd) + 1):
            data = (await client.order(an_order(number))).json()["data"]
            assert data["activationCode"] == data["qrCode"] == read_ledger(ledger)[-1].activation_code
    assert len(odd) >= 15


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("code_sample", "activationCode", "LPA:1$XYZ"),
        ("code_number", "activationCode", 8901120200045678901),
        ("reference_other", "orderReference", "order-999999999"),
        ("reference_number", "orderReference", 2),
        ("iccid_null", "iccid", None),
        ("iccid_with_f", "iccid", "8910000000000020018F"),
        ("qr_missing", "qrCode", None),
    ],
)
async def test_one_member_of_the_answer_is_wrong(stand_in: StandIn, name: str, key: str, value: object) -> None:
    stand_in.script(name)
    async with RawClient(stand_in.url) as client:
        data = (await client.order(an_order(2))).json()["data"]
    good = stand_in.issued[0].answer()["data"]
    assert data.get(key) == value
    assert {k: v for k, v in data.items() if k != key} == {
        k: v for k, v in good.items() if k != key
    } or name == "code_sample"


async def test_another_orders_esim_is_answered(stand_in: StandIn) -> None:
    stand_in.script("none", "same_code", "same_iccid", "same_all")
    async with RawClient(stand_in.url) as client:
        first, code, iccid, everything = [(await client.order(an_order(n))).json()["data"] for n in (1, 2, 2, 2)]
    assert code["activationCode"] == first["activationCode"]
    assert code["orderReference"] == "order-2"
    assert iccid["iccid"] == first["iccid"]
    assert everything == first


async def test_a_bomb_is_small_on_the_wire_and_large_unpacked(stand_in: StandIn) -> None:
    stand_in.script("gzip_bomb")
    async with RawClient(stand_in.url) as client:
        answer = await client.order(an_order())
    assert len(answer.body) < 100_000
    unpacked = gzip.decompress(answer.body)
    assert len(unpacked) > 8 * 1024 * 1024
    assert json.loads(unpacked)["data"]["activationCode"] == stand_in.issued[0].activation_code


async def test_a_refusal_repeats_the_address_and_the_key(stand_in: StandIn) -> None:
    stand_in.script("status_402")
    async with RawClient(stand_in.url) as client:
        answer = await client.order(an_order(), key="secret-key")
    assert b"secret-key" in answer.body
    assert b"traveller@example.com" in answer.body


async def test_a_redirect_points_where_the_argument_says(stand_in: StandIn) -> None:
    async with StandIn() as elsewhere:
        stand_in.script(f"redirect_307_after-{elsewhere.port}")
        async with (
            aiohttp.ClientSession(headers={"x-api-key": "a-key"}) as session,
            session.post(f"{stand_in.url}/partners/orders", json=an_order()) as answer,
        ):
            assert answer.status == 200
        # aiohttp follows a 307 unless it is told not to: what Tribi must not do is seen at the target.
        assert elsewhere.request_count == 1


async def test_interim_answers_come_before_the_good_one(stand_in: StandIn) -> None:
    stand_in.script("interim_103_many", "interim_100")
    async with RawClient(stand_in.url) as client:
        assert (await client.order(an_order())).interim == [103] * 1000
        assert (await client.order(an_order())).interim == [100]


async def test_a_second_answer_waits_for_the_next_request(stand_in: StandIn) -> None:
    stand_in.script("two_answers")
    async with RawClient(stand_in.url) as client:
        await client.order(an_order(1))
        assert (await client.order(an_order(2))).json()["data"]["orderReference"] == "order-1"


async def test_respond_answers_as_the_test_says(stand_in: StandIn) -> None:
    stand_in.script(
        respond(418, "short and stout", {"X-Pot": "tea"}),
        respond(200, lambda order: {"hello": order["customer"]["name"]}, issue=True),
    )
    async with RawClient(stand_in.url) as client:
        answer = await client.order(an_order(1))
        assert (answer.status, answer.body, answer.headers["x-pot"]) == (418, b"short and stout", "tea")
        assert (await client.order(an_order(2))).json() == {"hello": "Test Traveller"}
    assert [issued.reference for issued in stand_in.issued] == ["order-2"]


# --- which fault


async def test_script_goes_before_plan_code_goes_before_schedule() -> None:
    async with StandIn(weights={"status_500_before": 1}) as stand_in:
        stand_in.script("status_400")
        stand_in.script("status_403", reference="order-9")
        async with RawClient(stand_in.url) as client:
            statuses = [
                (await client.order(an_order(number, plan_code=plan_code))).status
                for number, plan_code in [
                    (9, "FAULT-status_402"),
                    (1, "FAULT-status_402"),
                    (1, "FAULT-status_402"),
                    (1, "FAULT-NONE"),
                    (1, "CY-ES-5GB"),
                ]
            ]
    assert statuses == [403, 400, 402, 200, 500]


async def test_a_plan_code_may_hold_an_argument(stand_in: StandIn) -> None:
    async with RawClient(stand_in.url) as client:
        answer = await client.order(an_order(plan_code="FAULT-STATUS_429_SECONDS-17"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "17")


async def test_a_misspelt_fault_fails_the_test(stand_in: StandIn) -> None:
    with pytest.raises(UnknownFaultError):
        stand_in.script("hangs_before")
    async with RawClient(stand_in.url) as client:
        assert (await client.order(an_order(plan_code="FAULT-hangs"))).status == 400
    assert stand_in.violations == ["no fault is called 'hangs'"]


async def test_the_schedule_follows_from_seed_and_reference() -> None:
    weights = {"none": 3, "status_500_before": 1, "status_500_after": 1, "status_402": 1}
    numbers = list(range(1, 61))

    async def met(seed: int, order: list[int]) -> dict[int, list[str]]:
        async with StandIn(seed=seed, weights=weights) as stand_in, RawClient(stand_in.url) as client:
            for number in order * 2:
                await client.order(an_order(number))
            assert sum(stand_in.fault_counts.values()) == 120
            return {n: [request.fault for request in stand_in.requests_for(f"order-{n}")] for n in numbers}

    first = await met(1, numbers)
    assert first == await met(1, numbers[::-1])
    assert first != await met(2, numbers)
    assert {name for names in first.values() for name in names} == set(weights)
    assert any(once != again for once, again in first.values()), "a replay must be able to fare better"


# --- concurrency, connections, time


async def test_two_thousand_requests_are_held_and_released() -> None:
    number = 2000
    async with StandIn() as stand_in:
        stand_in.script(*["hold_before"] * number)

        async def buy(nth: int) -> int:
            async with RawClient(stand_in.url) as client:
                return (await client.order(an_order(nth))).status

        buying = [asyncio.create_task(buy(nth)) for nth in range(1, number + 1)]
        await stand_in.wait_until_held(number)
        assert stand_in.issued == []
        stand_in.release(1, then="status_402")
        stand_in.release()
        assert sorted(await asyncio.gather(*buying)) == [200] * (number - 1) + [402]
        assert len({issued.iccid for issued in stand_in.issued}) == number - 1
        assert (stand_in.held, stand_in.violations) == (0, [])


async def test_closing_the_stand_in_ends_what_is_held_without_issuing(ledger: Path) -> None:
    async with StandIn(ledger=ledger) as stand_in, RawClient(stand_in.url) as client:
        stand_in.script("hold_before")
        await client.send(order_bytes(an_order()))
        await stand_in.wait_until_held(1)
    assert read_ledger(ledger) == []
    assert stand_in.requests[0].ended == "cut short"


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with StandIn() as stand_in, RawClient(stand_in.url) as client:
        stand_in.script("hold_after")
        await client.send(order_bytes(an_order()))
        await stand_in.wait_until_held(1)
        # From here on, so that a slow machine can't be idle for so long before it has asked.
        stand_in.close_idle_after_s = 0.05
        began = asyncio.get_running_loop().time()
        stand_in.release()
        assert (await client.answer()).status == 200
        assert await client.rest() == b""
        assert asyncio.get_running_loop().time() - began >= 0.05


@pytest.mark.parametrize("how", ["announced", "silent"])
async def test_each_answer_may_be_the_connections_last(how: str) -> None:
    async with StandIn(close_after_answer=how) as stand_in, RawClient(stand_in.url) as client:
        answer = await client.order(an_order())
        assert answer.headers.get("connection") == {"announced": "close", "silent": None}[how]
        assert await client.rest() == b""


async def test_connections_are_refused_and_accepted_again(stand_in: StandIn) -> None:
    stand_in.refuse()
    with pytest.raises(ConnectionRefusedError):
        await RawClient(stand_in.url).__aenter__()
    await stand_in.listen()
    async with RawClient(stand_in.url) as client:
        assert (await client.order(an_order())).status == 200


async def test_refusing_over_http_ends_by_itself(stand_in: StandIn) -> None:
    async with RawClient(stand_in.url) as client:
        await client.send(b'POST /_stand_in/refuse HTTP/1.1\r\nContent-Length: 14\r\n\r\n{"for_s": 0.0}')
        assert (await client.answer()).status == 200
    await stand_in.wait_until(lambda: stand_in.is_listening)
    async with RawClient(stand_in.url) as client:
        assert (await client.order(an_order())).status == 200


async def test_a_client_that_leaves_is_noticed(stand_in: StandIn) -> None:
    stand_in.script("hang_after")
    async with RawClient(stand_in.url) as client:
        await client.send(order_bytes(an_order()))
        await stand_in.wait_until_hanging(1)
    await stand_in.wait_until(lambda: stand_in.hanging == 0)
    assert stand_in.requests[0].ended == "client left"


async def test_waiting_in_vain_is_an_error(stand_in: StandIn) -> None:
    with pytest.raises(TimeoutError):
        await stand_in.wait_for_requests(1, timeout_s=0.01)


async def test_latency_comes_before_anything_is_issued() -> None:
    async with StandIn(latency_s=3600) as stand_in, RawClient(stand_in.url) as client:
        await client.send(order_bytes(an_order(1)))
        await stand_in.wait_for_requests(1)
        stand_in.latency_s = 0.01
        async with RawClient(stand_in.url) as second:
            assert (await second.order(an_order(2))).status == 200
        assert [issued.reference for issued in stand_in.issued] == ["order-2"]


# --- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


async def test_a_good_certificate_is_accepted(certificates: Certificates) -> None:
    trusting = certificates.client_context()
    async with StandIn(tls=certificates.good.server_context()) as stand_in:
        stand_in.script("none", "close_after")
        async with RawClient(stand_in.url, tls=trusting) as client:
            assert (await client.order(an_order())).status == 200
            with pytest.raises(NothingError):
                await client.order(an_order())
    assert stand_in.violations == []


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("self_signed", "self.signed"),
        ("unknown_authority", "unable to get local issuer"),
        ("wrong_host", "IP address mismatch"),
        ("expired", "expired"),
        ("not_yet", "not yet valid"),
    ],
)
async def test_a_bad_certificate_stops_before_the_request(certificates: Certificates, which: str, says: str) -> None:
    async with StandIn(tls=getattr(certificates, which).server_context()) as stand_in:
        with pytest.raises(ssl.SSLCertVerificationError, match=says):
            await RawClient(stand_in.url, tls=certificates.client_context()).__aenter__()
    assert stand_in.request_count == 0


# --- elsewhere


def test_a_thread_may_have_the_stand_in(ledger: Path) -> None:
    async def buy(stand_in: StandIn) -> int:
        async with RawClient(stand_in.url) as client:
            await client.send(order_bytes(an_order()))
            await stand_in.wait_until_held(1)
            stand_in.release()
            return (await client.answer()).status

    with stand_in_thread(ledger=ledger) as stand_in:
        stand_in.script("hold_after")
        with asyncio.Runner() as runner:
            assert runner.run(buy(stand_in)) == 200
    assert len(read_ledger(ledger)) == 1


async def test_a_child_process_is_the_stand_in_and_is_controlled_over_http(ledger: Path) -> None:
    async with StandInChild("--ledger", ledger, "--seed", "7") as child:
        await child.post("script", {"faults": ["hold_after", {"status": 418, "body": "tea"}]})
        await child.post("script", {"faults": ["status_403"], "reference": "order-3"})
        await child.post("scripts", {"order-5": ["status_404"], "order-6": [{"status": 410}]})
        async with RawClient(child.url) as client:
            await client.send(order_bytes(an_order(1)))
            assert (await child.get("wait?held=1"))["issued"] == 1
            await child.post("release")
            assert (await client.answer()).status == 200
            assert [(await client.order(an_order(number))).status for number in (2, 3, 5, 6)] == [418, 403, 404, 410]
        state = await child.get("state")
        assert (state["requests"], state["connections"], state["violations"]) == (5, 1, [])
        assert state["faults"] == {"hold_after": 1, "respond": 2, "status_403": 1, "status_404": 1}
        assert [line["reference"] for line in await child.get("ledger")] == ["order-1"]
        assert [request["seq"] for request in await child.get("requests?since=1")] == [2, 3, 4, 5]
        assert set(await child.get("faults")) == set(TABLE)
        await child.post("settings", {"dedupe": True})
        await child.post("schedule", {"weights": {"status_500_after": 1}})
        async with RawClient(child.url) as client:
            assert [(await client.order(an_order(4))).status for _ in range(2)] == [500, 500]
        for wrong in ("nothing", "wait?held=1&timeout_s=0.01"):
            with pytest.raises(ValueError, match=r"40[48]"):
                await child.get(wrong)
        for word, said in (("script", {"faults": ["hangs"]}), ("settings", {"port": 1}), ("script", {"faults": 1})):
            with pytest.raises(ValueError, match=r"40[04]"):
                await child.post(word, said)
        assert await child.end() == 0
    assert [issued.reference for issued in read_ledger(ledger)] == ["order-1", "order-4"]


async def test_a_child_process_that_is_killed_leaves_its_ledger(ledger: Path) -> None:
    async with StandInChild("--ledger", ledger) as child:
        async with RawClient(child.url) as client:
            assert (await client.order(an_order())).status == 200
        child.process.send_signal(signal.SIGKILL)
        assert await child.end() == -signal.SIGKILL
    assert len(read_ledger(ledger)) == 1


async def test_a_child_process_speaks_tls(certificates: Certificates) -> None:
    pair, trusting = certificates.good, certificates.client_context()
    async with StandInChild("--tls", pair.certificate, pair.key, tls=trusting) as child:
        assert child.url.startswith("https://")
        async with RawClient(child.url, tls=trusting) as client:
            assert (await client.order(an_order())).status == 200
        assert (await child.get("state"))["issued"] == 1
