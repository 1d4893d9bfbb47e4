"""`make demo`: the main job, once, with real parts: a server on loopback, HTTP, the embedded database, ConnectedYou's dry run."""

import asyncio
import os
import secrets
import socket
import sys
from pathlib import Path

import aiohttp
import uvicorn
from rich.console import Console
from rich.text import Text

from app.errors import ConfigurationError
from app.house import House, open_house
from app.logs import configure_logging
from app.main import create_app
from app.qr import qr_terminal
from app.services.accounts.keys import create_key
from app.services.catalogue.csv_file import read_catalogue
from app.services.catalogue.importing import apply_import
from app.services.esim_providers import providers_with_plan_codes
from app.settings import BACKEND_DIR, Settings

CATALOGUE = BACKEND_DIR.parents[1] / "examples" / "catalogue.csv"
_SKU = "es-5gb-30d"
_ACTOR = "demo"
_MAIL_WITHIN_S = 20


async def _prepare(settings: Settings) -> str:
    """The catalogue and a service key. Returns the key's secret."""
    async with open_house(settings) as house:
        return await _stock(house)


async def _stock(house: House) -> str:
    file = read_catalogue(CATALOGUE.read_bytes(), providers_with_plan_codes())
    async with house.db.begin() as connection:
        await apply_import(connection, file, replacing=False, actor=_ACTOR, file_name=CATALOGUE.name)
        _, secret = await create_key(connection, "demo", ["orders", "esims"], actor=_ACTOR)
    return secret


async def _run(settings: Settings, console: Console) -> None:
    files = settings.tribi_data_dir / "demo"
    files.mkdir(parents=True, exist_ok=True)
    console.print("[bold]1.[/] The embedded database starts, and the catalogue is imported.")
    secret = await _prepare(settings)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        os.environ["TRIBI_LISTENING_URL"] = base_url
        server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None, access_log=False, lifespan="on"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        headers = {"Authorization": f"Bearer {secret}"}
        async with aiohttp.ClientSession(base_url, headers=headers, raise_for_status=True) as shop:
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.02)
            esim_id = await _sell(shop, console, files)
            await _read_mail(settings.tribi_data_dir / "mails" / f"esim-{esim_id}-instructions.eml", console)
        server.should_exit = True
        await serving


async def _sell(shop: aiohttp.ClientSession, console: Console, files: Path) -> int:
    """Returns the eSIM's id."""
    console.print("[bold]2.[/] A storefront places a paid order: POST /api/orders")
    wish = {
        "sku": _SKU,
        "customer": {"email": "traveller@example.com", "name": "Ana Traveller"},
        "payment": {"status": "paid", "reference": f"demo-{secrets.token_hex(4)}"},
    }
    async with shop.post("/api/orders", json=wish, headers={"Idempotency-Key": secrets.token_hex(16)}) as reply:
        order = await reply.json()
    console.print(f"   order {order['id']}: {order['plan_snapshot']['name']}, {order['status']}")

    console.print("[bold]3.[/] Its eSIM is activated: POST /api/esims/activate")
    async with shop.post("/api/esims/activate", json={"order_id": order["id"]}) as reply:
        esim = await reply.json()
        console.print(f"   {reply.status}: {esim['status']} by {esim['provider']}")
    async with shop.get(f"/api/esims/{esim['id']}/qr.png") as reply:
        picture = files / f"order-{order['id']}.png"
        picture.write_bytes(await reply.read())
    console.print(Text.from_ansi(qr_terminal(esim["qr_code"], label="TEST")))
    for name, value in (
        ("ICCID", esim["iccid"]),
        ("Activation code", esim["activation_code"]),
        ("iPhone", esim["install"]["ios_url"]),
        ("Android", esim["install"]["android_url"]),
        ("QR as PNG", picture),
    ):
        console.print(Text(f"   {name + ':':<17}{value}"), soft_wrap=True)

    console.print("[bold]4.[/] Activated again, as a nervous client does: nothing is bought twice.")
    async with shop.post("/api/esims/activate", json={"order_id": order["id"]}) as reply:
        again = await reply.json()
        replayed = reply.headers.get("Idempotent-Replayed")
        console.print(f"   {reply.status}: the same eSIM {again['id']}, Idempotent-Replayed: {replayed}")
    if again != esim or reply.status != 200 or replayed != "true":
        raise ConfigurationError("the second activation did not replay the first: this is a bug, please report it")
    return int(esim["id"])


async def _read_mail(file: Path, console: Console) -> None:
    console.print("[bold]5.[/] A background job mails the traveller (to a file, since the demo has no mail server):")
    async with asyncio.timeout(_MAIL_WITHIN_S):
        while not await asyncio.to_thread(file.exists):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)
    console.print(Text(f"   {file}"), soft_wrap=True)


def main() -> int:
    """Returns the exit status. Settings are the demo's own, whatever `.env` says: it never spends money nor leaves this machine."""
    os.environ |= {
        "ESIM_PROVIDER": "CONNECTED_YOU",
        "CONNECTED_YOU_DRY_RUN": "true",
        "CONNECTED_YOU_PARTNER_ID": "demo-partner",
    }
    os.environ.pop("DATABASE_URL", None)
    console = Console(highlight=False)
    settings = Settings(database_url=None, smtp_url=None)
    configure_logging(level="ERROR", known_secrets=settings.secrets())
    try:
        asyncio.run(_run(settings, console))
    except (ConfigurationError, aiohttp.ClientError, OSError, TimeoutError) as error:
        console.print(Text(f"demo: {error}"), style="red")
        return 1
    console.print("\nThis was a dry run: no eSIM was bought.")
    console.print("Go on with [bold]make serve[/] and the README's curl walk.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
