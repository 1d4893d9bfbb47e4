"""A server is killed while the provider has its orders: nothing is sent twice, and a person settles what nobody can know."""

from dataclasses import dataclass

import aiohttp
import pytest

from tests.processes.installations import Installation, Server
from tests.processes.programs import until
from tests.stand_in.issuing import activation_code

DEADLINE_S = 1 + 5


@dataclass
class Aftermath:
    """What a killed server left, swept by the one that was started after it."""

    server: Server
    lost: list[int]
    """Orders whose eSIM was issued; each for one test."""
    not_issued: int
    """One that the provider took and did nothing about."""


@pytest.fixture(scope="module")
async def aftermath(site: Installation) -> Aftermath:
    order_ids = [await site.order() for _ in range(4)]
    victim = await site.serve(CONNECTED_YOU_TIMEOUT_SECONDS="1")
    await site.supplier.post("schedule", {"weights": {"hang_after": 1}})
    await site.script(order_ids[-1], "hang_before")
    calls = [victim.activating(order_id) for order_id in order_ids]
    await site.hanging(len(order_ids))
    await victim.kill()
    for call in calls:
        with pytest.raises(aiohttp.ClientConnectionError):
            await call
    await site.supplier.post("schedule", {"weights": {}})
    assert {await site.status(order_id) for order_id in order_ids} == {"provisioning"}
    server = await site.serve(CONNECTED_YOU_TIMEOUT_SECONDS="1")
    await site.becomes("unknown", *order_ids, limit_s=DEADLINE_S + 10)
    return Aftermath(server, order_ids[:-1], order_ids[-1])


@pytest.fixture(scope="module")
async def patient(site: Installation) -> Server:
    """One whose attempts have a deadline that no test sees."""
    return await site.serve(CONNECTED_YOU_TIMEOUT_SECONDS="60")


async def test_an_order_that_died_with_its_server_is_not_sent_again(site: Installation, aftermath: Aftermath) -> None:
    order_id = aftermath.lost[0]
    reply = await aftermath.server.activate(order_id)
    assert reply.problem == (409, "activation-outcome-unknown")
    assert await site.outcomes(order_id) == ["unknown"]
    assert len(site.issued(order_id)) == 1


async def test_a_person_who_knows_the_code_settles_it(site: Installation, aftermath: Aftermath) -> None:
    order_id = aftermath.lost[1]
    esim_id = await site.esim_id(order_id)
    [issued] = site.issued(order_id)
    done = await site.run(
        "esims", "resolve", str(esim_id), "--issued", issued.activation_code, "--reason", "their ticket 4711"
    )
    assert (done.status, done.stdout, done.stderr) == (0, f"eSIM {esim_id} is provisioned.\n", "")
    reply = await aftermath.server.activate(order_id)
    assert (reply.status, reply.headers["Idempotent-Replayed"]) == (200, "true")
    assert reply.json()["activation_code"] == issued.activation_code
    assert len(site.issued(order_id)) == 1


async def test_a_code_that_another_esim_holds_settles_nothing(site: Installation, aftermath: Aftermath) -> None:
    other = await site.order()
    assert (await aftermath.server.activate(other)).status == 201
    esim_id = await site.esim_id(aftermath.lost[2])
    code = site.issued(other)[0].activation_code
    done = await site.run("esims", "resolve", str(esim_id), "--issued", code, "--reason", "a slip")
    assert (done.status, done.stdout) == (1, "")
    assert done.complaints == [
        "tribi: another eSIM already holds an activation code: check what the provider's records say"
    ]
    assert await site.status(aftermath.lost[2]) == "unknown"


async def test_what_was_not_issued_is_bought_by_the_next_activation(site: Installation, aftermath: Aftermath) -> None:
    order_id = aftermath.not_issued
    esim_id = await site.esim_id(order_id)
    done = await site.run("esims", "resolve", str(esim_id), "--not-issued", "--reason", "they have no record of it")
    assert (done.status, done.stdout, done.stderr) == (0, f"eSIM {esim_id} is pending.\n", "")
    assert (await aftermath.server.activate(order_id)).status == 201
    assert await site.outcomes(order_id) == ["unknown", "delivered"]
    assert len(site.issued(order_id)) == 1


async def test_nobody_settles_what_is_not_unknown(site: Installation, aftermath: Aftermath) -> None:
    order_id = await site.order()
    esim_id = await site.esim_id(order_id)
    code = activation_code(f"order-{order_id}", 1)
    done = await site.run("esims", "resolve", str(esim_id), "--issued", code, "--reason", "a slip")
    assert (done.status, done.stdout) == (1, "")
    assert done.complaints == [f"tribi: eSIM {esim_id} is pending: only an unknown one can be settled"]


async def test_nobody_settles_before_the_deadline(site: Installation, patient: Server) -> None:
    order_id = await site.order()
    await site.script(order_id, "status_500_after")
    assert (await patient.activate(order_id)).problem == (502, "activation-outcome-unknown")
    esim_id = await site.esim_id(order_id)
    done = await site.run("esims", "resolve", str(esim_id), "--not-issued", "--reason", "in a hurry")
    assert (done.status, done.stdout) == (1, "")
    [complaint] = done.complaints
    assert complaint.startswith(f"tribi: eSIM {esim_id}: the deadline of attempt")
    assert await site.status(order_id) == "unknown"


async def test_a_killed_server_leaves_no_call_waiting_for_ever(
    site: Installation, aftermath: Aftermath, patient: Server
) -> None:
    """Who activates while the attempt of a dead server is open waits for the sweep, and hears what that found."""
    order_id = await site.order()
    await site.script(order_id, "hang_after")
    first = patient.activating(order_id)
    await site.hanging()
    await patient.kill()
    with pytest.raises(aiohttp.ClientConnectionError):
        await first
    second = aftermath.server.activating(order_id)
    await until(lambda: aftermath.server.answers("/healthz"))
    await site.expire(order_id)
    assert (await second).problem == (502, "activation-outcome-unknown")
    assert len(site.issued(order_id)) == 1
