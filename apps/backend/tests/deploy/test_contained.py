"""The product under the image's conditions: read-only root, its own user, no capability, two volumes, a /tmp."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.chaos.db_proxy import DatabaseProxy
from tests.deploy.contained import Container
from tests.deploy.dockerfile import stages
from tests.processes.installations import Installation, a_database, an_installation
from tests.processes.programs import environment, until

pytestmark = (
    pytest.mark.without_pgbouncer
)  # it is about folders and users; how the database is reached is others' concern

IMAGE = stages()[-1]
UID = int(IMAGE.all("USER")[0].partition(":")[0])


def opened_to_all(proxy: DatabaseProxy) -> Path:
    """The folder of its socket: that of the server itself is for its own user and for us."""
    folder = Path(dict(parse_qsl(urlsplit(proxy.url).query))["host"])
    for path in (folder, *folder.iterdir()):
        path.chmod(0o777)
    return folder


@pytest.fixture(scope="module")
async def contained(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Installation, Container]]:
    """An installation whose programs run in containers that share their volumes; the database is another machine's."""
    folder = tmp_path_factory.mktemp("contained")
    database_url = a_database(postgres_url)
    async with an_installation(folder, database_url) as made:
        await made.stock()
        with DatabaseProxy(made.settings["DATABASE_URL"]) as proxy:
            container = Container(folder, (opened_to_all(proxy),))
            made.settings |= container.environment | {"DATABASE_URL": proxy.url}
            made.wrapped_in = container.wrapped()
            yield made, container
            for program in made.programs:
                program.clear_away()


async def test_commands_servers_and_workers_run(contained: tuple[Installation, Container], tmp_path: Path) -> None:
    site, container = contained
    assert (await site.run("migrate")).status == 0
    worker = site.start("worker", LOG_LEVEL="INFO")
    server = await site.serve(*IMAGE.command("CMD")[1:], "--workers", "2", SHUTDOWN_DELAY_SECONDS="0")
    order_id = await site.order()
    assert (await server.activate(order_id)).status == 201
    [journal] = container.volume(IMAGE.environment()["TRIBI_JOURNAL_DIR"]).glob("*/*")
    assert f'"order-{order_id}"' in journal.read_text()
    mails = container.volume(IMAGE.environment()["TRIBI_DATA_DIR"]) / "mails"
    await until(lambda: any(mails.glob("*.eml")))
    assert {path.stat().st_uid for path in (journal, mails)} == {
        int(IMAGE.all("USER")[0].partition(":")[0])
    } or os.geteuid()
    backup = await site.run("backup", "/var/lib/tribi/tribi.dump")
    assert (backup.status, backup.stderr) == (0, "")
    assert is_healthy(site, server.shop.port)
    for program in (server, worker):
        program.send(signal.SIGTERM)
        assert await program.ended() == 0
    assert not is_healthy(site, server.shop.port)


def is_healthy(site: Installation, port: int) -> bool:
    """What HEALTHCHECK's own command says."""
    words = [word.replace("8000", str(port)) for word in IMAGE.command("HEALTHCHECK")]
    assert any(str(port) in word for word in words)
    done = subprocess.run(
        [*site.wrapped_in, *words], env=environment(site.folder, site.settings), cwd="/", capture_output=True
    )
    return done.returncode == 0


def test_nothing_else_can_be_written_and_nothing_may_be_changed(contained: tuple[Installation, Container]) -> None:
    site, _ = contained
    script = "touch /x /etc/x /var/lib/x /opt/x 2>/dev/null; id -u; grep -h Cap /proc/self/status; ls /"
    done = subprocess.run(
        [*site.wrapped_in, "/bin/sh", "-c", script],
        env=environment(site.folder, site.settings),
        capture_output=True,
        text=True,
    )
    assert "x" not in done.stdout.split()
    assert {line.split()[1] for line in done.stdout.splitlines() if line.startswith("CapEff")} == {"0" * 16}


async def test_without_a_volume_for_its_journal_a_live_server_says_what_is_missing(
    contained: tuple[Installation, Container],
) -> None:
    site, _ = contained
    server = site.start_server(TRIBI_JOURNAL_DIR="/nowhere/journal")
    assert await server.ended() != 0
    assert "TRIBI_JOURNAL_DIR" in server.log.read_text()
    assert "mounted volume" in server.log.read_text()


def test_its_command_line_is_one(contained: tuple[Installation, Container]) -> None:
    assert [*IMAGE.command("ENTRYPOINT"), *IMAGE.command("CMD")] == shlex.split("tribi serve --host 0.0.0.0")
    assert Path(sys.executable).with_name("tribi").exists()
