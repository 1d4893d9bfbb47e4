"""Secrets that change under a server that runs: the provider's key in its file, and the encryption key."""

import json
from base64 import b64encode

from sqlalchemy import text

from tests.conftest import KEY
from tests.processes.installations import API_KEY, Installation
from tests.processes.programs import until

OTHER_KEY = b64encode(b"another key, of thirty-two bytes").decode()


async def test_the_next_order_goes_out_with_the_key_that_a_vault_has_put_into_the_file(
    installation: Installation,
) -> None:
    path = installation.folder / "connected_you"
    path.write_text("the-key-of-yesterday")
    server = await installation.serve(CONNECTED_YOU_API_KEY=None, CONNECTED_YOU_API_KEY_FILE=str(path))
    order_id = await installation.order()
    assert (await server.activate(order_id)).problem == (502, "provider-refused")
    path.write_text(API_KEY + "\n")
    await until(lambda: server.events("secrets.renewed"))
    assert (await server.activate(order_id)).status == 201


_A_MINUTE_PASSES = text("UPDATE encryption_keys SET in_use_until = in_use_until - interval '1 minute'")
_IN_USE = text("SELECT count(*) FROM encryption_keys WHERE in_use_until > now()")


async def test_the_encryption_key_is_rotated_while_a_server_serves(installation: Installation) -> None:
    both = f"{OTHER_KEY},{KEY}"

    async def both_are_in_use() -> bool:
        async with installation.db.read() as connection:
            return bool(await connection.scalar(_IN_USE) == 2)

    async def a_minute_passes() -> None:
        async with installation.db.begin() as connection:
            await connection.execute(_A_MINUTE_PASSES)

    first = await installation.serve(PUBLIC_URL="https://shop.example")
    order_id = await installation.order()
    esim = (await first.activate(order_id)).json()
    second = await installation.serve(ENCRYPTION_KEY=both, PUBLIC_URL="https://shop.example")
    await a_minute_passes()
    await until(both_are_in_use)  # both servers have said so again
    await first.kill()
    await a_minute_passes()

    done = await installation.run("secrets", "rotate", "--json", ENCRYPTION_KEY=both)
    rotation = json.loads(done.stdout)
    assert (done.status, rotation["is_complete"], rotation["busy"], rotation["unreadable"]) == (0, True, 0, [])
    assert [(key["position"], key["may_be_removed"]) for key in rotation["keys"]] == [(1, False), (2, True)]
    assert (await second.get(f"/api/esims/{esim['id']}")).json() == esim
    third = await installation.serve(ENCRYPTION_KEY=OTHER_KEY, PUBLIC_URL="https://shop.example")
    assert (await third.get(f"/api/esims/{esim['id']}")).json() == esim
