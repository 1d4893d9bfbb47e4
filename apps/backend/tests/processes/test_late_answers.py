"""A server is stopped until others take its call for dead, and then goes on: what it still hears counts, and it sends nothing."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from tests.processes.installations import Installation, Server
from tests.processes.programs import until

_IS_LATE = text(
    "SELECT clock_timestamp() > opened_at + interval '1.5 seconds' FROM provisioning_attempts WHERE reference = :reference"
)


@contextmanager
def asleep(server: Server) -> Iterator[None]:
    server.send(signal.SIGSTOP)
    try:
        yield
    finally:
        server.send(signal.SIGCONT)


async def found_unknown(shared: Installation, order_id: int) -> None:
    """Another server's sweep comes by, as if the deadline had passed."""
    await shared.expire(order_id)
    await shared.becomes("unknown", order_id)


async def test_an_answer_that_comes_late_still_provisions(shared: Installation, servers: list[Server]) -> None:
    sleeper, other = servers
    order_id = await shared.order()
    await shared.script(order_id, "hold")
    call = sleeper.activating(order_id)
    await shared.held()
    with asleep(sleeper):
        await found_unknown(shared, order_id)
        assert (await other.activate(order_id)).problem == (409, "activation-outcome-unknown")
        await shared.release()
        await until(lambda: shared.issued(order_id))
    assert (await call).status == 201
    assert await shared.outcomes(order_id) == ["delivered"]
    replay = await other.activate(order_id)
    assert (replay.status, replay.json()) == (200, (await call).json())
    assert len(shared.issued(order_id)) == 1


async def test_an_esim_that_comes_after_another_was_bought_is_kept_as_surplus(
    shared: Installation, servers: list[Server]
) -> None:
    sleeper, other = servers
    order_id = await shared.order()
    await shared.script(order_id, "hold_after", "none")
    call = sleeper.activating(order_id)
    await shared.held()
    with asleep(sleeper):
        await found_unknown(shared, order_id)
        esim_id = str(await shared.esim_id(order_id))
        done = await shared.run("esims", "resolve", esim_id, "--not-issued", "--reason", "they were wrong about it")
        assert done.status == 0, done.stderr
        second = await other.activate(order_id)
        assert second.status == 201
        await shared.release()
    first = await call
    assert first.json() == second.json()
    assert await shared.outcomes(order_id) == ["surplus", "delivered"]
    assert [line.activation_code == second.json()["activation_code"] for line in shared.issued(order_id)] == [
        False,
        True,
    ]
    assert await sleeper.metric("tribi_esims_surplus_total") == 1


async def test_a_server_that_slept_over_its_own_timeout_sends_nothing_again(
    shared: Installation, servers: list[Server]
) -> None:
    order_id = await shared.order()
    await shared.script(order_id, "hang_after")
    sleeper = await shared.serve(CONNECTED_YOU_TIMEOUT_SECONDS="1")
    call = sleeper.activating(order_id)
    await shared.hanging()

    async def is_late() -> bool:
        async with shared.db.read() as connection:
            return bool(await connection.scalar(_IS_LATE, {"reference": f"order-{order_id}"}))

    with asleep(sleeper):
        await found_unknown(shared, order_id)
        await until(is_late)
    assert (await call).problem == (502, "activation-outcome-unknown")
    assert await shared.outcomes(order_id) == ["unknown"]
    for server in (sleeper, servers[1]):
        assert (await server.activate(order_id)).problem == (409, "activation-outcome-unknown")
    assert len(shared.issued(order_id)) == 1


async def test_a_stopped_server_delays_nobody_elses_orders(shared: Installation, servers: list[Server]) -> None:
    sleeper, other = servers
    order_id = await shared.order()
    await shared.script(order_id, "hold")
    call = sleeper.activating(order_id)
    await shared.held()
    with asleep(sleeper):
        assert [(await other.activate(await shared.order())).status for _ in range(5)] == [201] * 5
    await shared.release()
    assert (await call).status == 201
