"""`deploy/nginx.conf` in a real nginx, before a real Tribi and a server that breaks: a POST that was sent is not sent again."""

import asyncio
import os
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from app.settings import BACKEND_DIR
from tests.api.serving import Shop
from tests.processes.programs import a_free_port, until
from tests.system_packages import the_command

EXAMPLE = (BACKEND_DIR.parents[1] / "deploy" / "nginx.conf").read_text()
NAME = "esims.example.com"
_MAIN = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/tribi.conf;
}}
"""


@dataclass
class Breaking:
    """A server that reads a whole request and then breaks the connection. `heard`: the request lines."""

    port: int = 0
    heard: list[str] = field(default_factory=list)

    async def called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"(?i)^content-length: (\d+)", head, re.MULTILINE)
        await reader.readexactly(int(length[1]) if length else 0)
        self.heard.append(head.partition("\r\n")[0])
        writer.transport.abort()


@pytest.fixture
async def breaking() -> AsyncIterator[Breaking]:
    made = Breaking()
    server = await asyncio.start_server(made.called, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@contextmanager
def nginx(folder: Path, config: str, first: int, second: int) -> Iterator[int]:
    """It runs the configuration with these two servers behind it; its port."""
    port = a_free_port()
    authority = trustme.CA()
    certificate = authority.issue_cert(NAME)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    changes = {
        "127.0.0.1:8001": f"127.0.0.1:{first}",
        "127.0.0.1:8002": f"127.0.0.1:{second}",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/tribi/fullchain.pem": str(folder / "server.pem"),
        "/etc/ssl/tribi/privkey.pem": str(folder / "server.pem"),
    }
    for before, after in changes.items():
        assert config.count(before) == 1, before
        config = config.replace(before, after)
    (folder / "tribi.conf").write_text(config)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
    command = [the_command("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        assert process.wait(30) == 0


@dataclass(frozen=True)
class Storefront:
    """It speaks to the proxy over TLS, by its name."""

    shop: Shop
    port: int
    tls: ssl.SSLContext

    async def asks(self, method: str, path: str, body: str = "") -> int:
        headers = self.shop.bearer | {"Host": NAME, "Content-Type": "application/json"}
        url = f"https://127.0.0.1:{self.port}{path}"
        async with self.shop.http.request(
            method, url, data=body or None, headers=headers, ssl=self.tls, server_hostname=NAME
        ) as reply:
            return reply.status

    async def activates(self, order_id: int) -> int:
        return await self.asks("POST", "/api/esims/activate", f'{{"order_id": {order_id}}}')


@asynccontextmanager
async def storefront(shop: Shop, folder: Path, first: int, config: str = EXAMPLE) -> AsyncIterator[Storefront]:
    with nginx(folder, config, first, shop.port) as port:
        tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await until(listens)
        yield Storefront(shop, port, tls)


async def status(shop: Shop, order_id: int) -> str:
    return str((await shop.get(f"/api/orders/{order_id}")).json()["esim"]["status"])


async def test_a_post_that_was_sent_is_not_sent_to_another_server(
    shop: Shop, tmp_path: Path, breaking: Breaking
) -> None:
    order_id = (await shop.ordered())["id"]
    async with storefront(shop, tmp_path, breaking.port) as client:
        assert await client.activates(order_id) == 502
        assert breaking.heard == ["POST /api/esims/activate HTTP/1.1"]
        assert await status(shop, order_id) == "pending"
        assert await client.activates(order_id) == 201  # the storefront may: its order is the key
        assert await client.activates(order_id) == 200
    assert len(breaking.heard) == 1


async def test_it_would_be_sent_again_with_the_one_word_that_is_not_there(
    shop: Shop, tmp_path: Path, breaking: Breaking
) -> None:
    order_id = (await shop.ordered())["id"]
    careless = EXAMPLE.replace("error timeout;", "error timeout non_idempotent;")
    assert careless != EXAMPLE
    async with storefront(shop, tmp_path, breaking.port, careless) as client:
        assert await client.activates(order_id) == 201
    assert len(breaking.heard) == 1


async def test_a_get_is_asked_of_the_other_server(shop: Shop, tmp_path: Path, breaking: Breaking) -> None:
    async with storefront(shop, tmp_path, breaking.port) as client:
        assert await client.asks("GET", "/api/plans") == 200
    assert breaking.heard == ["GET /api/plans HTTP/1.1"]


async def test_a_post_goes_to_the_other_server_where_nobody_listens(shop: Shop, tmp_path: Path) -> None:
    order_id = (await shop.ordered())["id"]
    async with storefront(shop, tmp_path, a_free_port()) as client:
        assert await client.activates(order_id) == 201


async def test_what_is_for_the_inside_is_not_shown_outside(shop: Shop, tmp_path: Path) -> None:
    async with storefront(shop, tmp_path, shop.port) as client:
        assert [await client.asks("GET", path) for path in ("/metrics", "/readyz", "/healthz")] == [404] * 3


async def test_no_log_of_nginxs_has_the_link_to_an_install_page(
    shop: Shop, tmp_path: Path, breaking: Breaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "_MAIN", _MAIN.replace("access_log off;", "access_log {folder}/access.log;"))
    page_url = (await shop.ordered())["esim"]["install"]["page_url"]
    token = page_url.rpartition("/")[2]
    async with storefront(shop, tmp_path, breaking.port) as client:
        assert await client.asks("GET", f"/i/{token}?lang=de") == 200
        assert await client.asks("GET", "/api/plans?of=the-others") == 200
    assert f"GET /i/{token}?lang=de HTTP/1.1" in breaking.heard  # which is an error to nginx
    logged = "".join((tmp_path / name).read_text() for name in ("access.log", "error.log"))
    assert "/api/plans?of=the-others" in logged
    assert token not in logged


def test_it_waits_longer_than_an_activation_may_take() -> None:
    found = re.search(r"proxy_read_timeout (\d+)s;", EXAMPLE)
    assert found
    assert int(found[1]) > 15 + 5
