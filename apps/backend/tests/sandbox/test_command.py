"""`tribi sandbox` as somebody types it."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from app.listening import listen
from app.sandbox.behaviours import Repeats
from app.sandbox.server import Options, greeting
from app.services.esim_providers import get_esim_provider
from tests.api.serving import raw
from tests.processes.canaries import found_in
from tests.processes.programs import Program, run, until
from tests.sandbox.running import HEADERS, Sandbox, an_order

_URL = re.compile(r"ConnectedYou sandbox on (http://\S+):")
_SETTING = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)


class Started(Program):
    """A `tribi sandbox`."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, folder / "sandbox.log", {}, "sandbox", "--port", "0", *options)

    async def url(self) -> str:
        return str((await until(lambda: _URL.search(self.log.read_text())))[1])


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    program = Started(tmp_path)
    try:
        await program.url()
        yield program
    finally:
        program.clear_away()


async def test_it_prints_the_settings_to_put_into_env(started: Started) -> None:
    url = await started.url()
    assert dict(_SETTING.findall(started.log.read_text())) == {
        "ESIM_PROVIDER": "CONNECTED_YOU",
        "CONNECTED_YOU_BASE_URL": url,
        "CONNECTED_YOU_API_KEY": "sandbox-key",
        "CONNECTED_YOU_PARTNER_ID": "sandbox-partner",
        "CONNECTED_YOU_DRY_RUN": "false",
        "CONNECTED_YOU_WEBHOOK_HEADER": "x-webhook-secret",
        "CONNECTED_YOU_WEBHOOK_SECRET": "sandbox-secret",
    }
    assert url.startswith("http://127.0.0.1:")


async def test_a_secret_of_ones_own_is_not_printed(tmp_path: Path) -> None:
    program = Started(tmp_path, "--webhook-secret", "hunter2-hunter2")
    try:
        await program.url()
        assert "CONNECTED_YOU_WEBHOOK_SECRET: what --webhook-secret says" in program.log.read_text()
        assert "hunter2" not in program.log.read_text()
    finally:
        program.clear_away()


async def test_with_those_settings_tribi_is_live(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _SETTING.findall(started.log.read_text()):
        monkeypatch.setenv(name, value)
    provider = get_esim_provider()
    assert (provider.name, provider.is_live, provider.base_url) == ("CONNECTED_YOU", True, await started.url())


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_well_even_while_an_answer_is_due(started: Started, kind: signal.Signals) -> None:
    async with aiohttp.ClientSession() as http:
        sandbox = Sandbox(await started.url(), http)
        waiting = asyncio.create_task(sandbox.order(plan_code="SANDBOX-SLOW-3600"))
        await until(sandbox.esims)
        started.send(kind)
        assert await started.ended() == 0
        await asyncio.wait([waiting])
        assert isinstance(waiting.exception(), aiohttp.ClientError)


async def test_nothing_secret_reaches_its_log(started: Started) -> None:
    """However the request is spoilt."""
    url = await started.url()
    customer = {"email": "zoe@canary.example", "name": "Zoe Canary"}
    headers = HEADERS | {"x-api-key": "canary/api+key"}
    async with aiohttp.ClientSession() as http:
        sandbox = Sandbox(url, http)
        good = an_order(partnerId="canary-partner", customer=customer)
        bought = (await sandbox.post("/partners/orders", good, headers)).json()["data"]
        for spoilt in (good | {"quantity": 2}, json.dumps(good).encode()[:-3], good | {"Zoe Canary": "x"}):
            assert (await sandbox.post("/partners/orders", spoilt, headers)).status >= 400
        secret = {"event_type": "USAGE_ALERT", "iccid": bought["iccid"], "secret": "canary-hook"}
        await sandbox.post("/sandbox/webhooks", secret | {"url": "http://127.0.0.1:1/?token=canary-token"})
    for request in (
        b"POST /partners/orders HTTP/1.1\r\nHost: x\r\nx-api-key canary/api+key\r\n\r\n",
        b"canary/api+key zoe@canary.example\r\n\r\n",
        b"POST /canary/api+key HTTP/1.1\r\nHost: x\r\nContent-Length: zoe@canary.example\r\n\r\n",
    ):
        await raw(url, request)
    log = started.log.read_text()
    assert "sandbox.request_refused" in log
    assert "sandbox.webhook" in log
    codes = [bought["activationCode"], bought["activationCode"].rpartition("$")[2], bought["iccid"]]
    secrets = ["canary/api+key", "canary-partner", "zoe@canary.example", "Zoe Canary", "canary-hook", "canary-token"]
    assert found_in(log, [*codes, *secrets]) == []


async def test_options_that_cannot_be_are_told_a_line_each(tmp_path: Path) -> None:
    options = ["--webhook-url", "nowhere", "--webhook-header", "x y", "--webhook-secret", "ä"]
    done = await run(tmp_path, {}, "sandbox", "--port", "0", *options)
    assert (done.status, done.stdout) == (1, "")
    assert [line.split()[1] for line in done.complaints] == ["--webhook-url", "--webhook-header", "--webhook-secret"]


async def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        done = await run(tmp_path, {}, "sandbox", "--port", str(taken.getsockname()[1]))
    assert (done.status, done.stdout) == (1, "")
    [line] = done.complaints
    assert line.endswith("choose another with --host and --port")


async def test_the_settings_of_an_installation_mean_nothing_to_it(tmp_path: Path) -> None:
    """Not even wrong ones stop it."""
    settings = {"DATABASE_URL": "nonsense", "ESIM_PROVIDER": "NOBODY"}
    program = Program(tmp_path, tmp_path / "log", settings, "sandbox", "--port", "0")
    try:
        await until(lambda: _URL.search(program.log.read_text()))
    finally:
        program.clear_away()


def test_it_starts_without_what_it_does_not_need() -> None:
    """So it is there at once."""
    program = "import sys, app.sandbox.server; print(sorted({'fastapi', 'uvicorn', 'sqlalchemy', 'psycopg'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_for_other_machines_it_says_what_they_need() -> None:
    def said(host: str) -> str:
        return greeting("http://127.0.0.1:9000", Options(host, 9000, Repeats.BILL, None, None, "x-webhook-secret", "s"))

    assert "CONNECTED_YOU_ALLOW_HTTP=true" in said("0.0.0.0")  # noqa: S104 - nothing listens
    assert "Whoever reaches it can use it." in said("::")
    assert "CONNECTED_YOU_ALLOW_HTTP" not in said("127.0.0.1")
