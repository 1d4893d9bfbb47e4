"""A provider that fails call after call, as a storefront and an operator see it."""

from sqlalchemy import text

from tests.processes.installations import Installation


async def test_a_provider_that_fails_is_paused_says_so_and_comes_back(installation: Installation) -> None:
    server = await installation.serve(PROVIDER_CIRCUIT_FAILURES="2")
    for _ in range(2):
        order_id = await installation.order()
        await installation.script(order_id, "status_500_before")
        assert (await server.activate(order_id)).problem == (502, "activation-outcome-unknown")

    order_id = await installation.order()
    reply = await server.activate(order_id)
    assert reply.problem == (503, "provider-paused")
    assert reply.json()["retryable"] is True
    assert 0 < int(reply.headers["Retry-After"]) <= 30
    assert (await installation.status(order_id), await installation.outcomes(order_id)) == ("pending", [])

    ready = await server.get("/readyz")
    provider = ready.json()["provider"]
    assert (ready.status, provider["paused"], provider["by"]) == (200, True, "circuit")
    assert provider["reason"] == "activation-outcome-unknown"
    assert provider["since"] < provider["next_probe"]
    assert await server.metric("tribi_provider_paused", provider="CONNECTED_YOU", by="circuit") == 1
    assert await server.metric("tribi_provider_circuit_openings_total", provider="CONNECTED_YOU") == 1
    assert [event["level"] for event in server.events("providers.circuit_opened")] == ["error"]

    async with installation.db.begin() as connection:
        await connection.execute(text("UPDATE provider_states SET probe_at = now()"))
    assert (await server.activate(order_id)).status == 201
    assert (await server.get("/readyz")).json()["provider"]["paused"] is False
    assert await server.metric("tribi_provider_paused", provider="CONNECTED_YOU", by="circuit") == 0
