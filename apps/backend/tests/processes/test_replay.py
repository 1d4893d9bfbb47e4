"""CONNECTED_YOU_UNKNOWN_OUTCOME=replay: a server asks again by itself, a person by a command; with `hold` nobody does."""

from tests.processes.installations import Installation
from tests.processes.programs import until

REPLAY = {"CONNECTED_YOU_UNKNOWN_OUTCOME": "replay"}


async def test_a_server_settles_an_unknown_order_by_sending_it_again(installation: Installation) -> None:
    await installation.supplier.post("settings", {"dedupe": True})
    server = await installation.serve(**REPLAY)
    order_id = await installation.order()
    await installation.script(order_id, "close_after")
    assert (await server.activate(order_id)).problem == (502, "activation-outcome-unknown")
    await installation.becomes("provisioned", order_id)
    reply = await server.activate(order_id)
    assert (reply.status, reply.headers["Idempotent-Replayed"]) == (200, "true")
    [issued] = installation.issued(order_id)
    assert reply.json()["activation_code"] == issued.activation_code
    assert await installation.outcomes(order_id) == ["unknown", "delivered"]
    await installation.has_mail(order_id)


async def test_an_order_whose_server_was_killed_is_settled_by_the_next_one(installation: Installation) -> None:
    await installation.supplier.post("settings", {"dedupe": True})
    victim = await installation.serve(**REPLAY)
    order_id = await installation.order()
    await installation.script(order_id, "hang_after")
    assert (await victim.activate(order_id, respond_async=True)).status == 202
    await installation.hanging()
    await victim.kill()
    await installation.expire(order_id)
    await installation.serve(**REPLAY)
    await installation.becomes("provisioned", order_id)
    assert len(installation.issued(order_id)) == 1


async def test_a_person_sends_an_order_again(installation: Installation) -> None:
    await installation.supplier.post("settings", {"dedupe": True})
    server = await installation.serve()
    order_id = await installation.order()
    await installation.script(order_id, "close_after", "status_503_before")
    assert (await server.activate(order_id)).problem == (502, "activation-outcome-unknown")
    esim_id = str(await installation.esim_id(order_id))

    held = await installation.run("esims", "replay", esim_id)
    assert (held.status, held.stdout) == (1, "")
    assert held.complaints == [
        f"tribi: order {order_id} can't be sent again: "
        "the provider isn't known to recognise a repeated order (CONNECTED_YOU_UNKNOWN_OUTCOME is `hold`)"
    ]
    failed = await installation.run("esims", "replay", esim_id, **REPLAY)
    assert (failed.status, failed.stdout) == (1, "")
    assert failed.complaints[-1].startswith(f"tribi: ConnectedYou gave no clear answer for order-{order_id}: HTTP 503")
    done = await installation.run("esims", "replay", esim_id, **REPLAY)
    assert (done.status, done.stdout, done.stderr) == (0, f"eSIM {esim_id} is provisioned.\n", "")
    assert len(installation.issued(order_id)) == 1
    again = await installation.run("esims", "replay", esim_id, **REPLAY)
    assert again.complaints == [
        f"tribi: order {order_id} can't be sent again: its eSIM is provisioned: only an unknown one is sent again"
    ]


async def test_by_default_nothing_is_sent_again(installation: Installation) -> None:
    server = await installation.serve()
    order_id = await installation.order()
    await installation.script(order_id, "close_after")
    assert (await server.activate(order_id)).problem == (502, "activation-outcome-unknown")
    replaying = await installation.serve(**REPLAY, CONNECTED_YOU_PARTNER_ID="another-partner")
    later = await installation.order()  # lost as well, to the account that the second server knows
    await installation.script(later, "close_after")
    assert (await replaying.activate(later)).problem == (502, "activation-outcome-unknown")
    await until(lambda: len(installation.issued(later)) == 2)  # so that server has looked for what is due
    assert await installation.outcomes(order_id) == ["unknown"]
    assert len(installation.issued(order_id)) == 1
