"""The provider's key is read again from its file while a server runs."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from app import logs
from app.jobs import renewing
from app.jobs.renewing import SecretFile, keep_credential_current
from app.logs import configure_logging
from app.services.esim_providers import (
    EsimProvider,
    ProvisionRequest,
    SupplierRefused,
    TakesCredential,
    get_esim_provider,
)
from app.settings import Settings, load_settings
from tests.processes.programs import until
from tests.stand_in import StandIn, respond

OLD, NEW = "the-key-of-yesterday", "the-key-of-today"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "connected_you"
    path.write_text(OLD + "\n")
    return path


@pytest.fixture
def settings(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """From an environment that names the file, as a server's."""
    monkeypatch.setenv("CONNECTED_YOU_API_KEY_FILE", str(key_file))
    monkeypatch.setenv("ESIM_PROVIDER", "CONNECTED_YOU")
    monkeypatch.setenv("CONNECTED_YOU_PARTNER_ID", "partner-of-tests")
    monkeypatch.setenv("CONNECTED_YOU_DRY_RUN", "false")
    return load_settings()


@pytest.fixture
def file(settings: Settings) -> SecretFile:
    return SecretFile(settings, "connected_you_api_key")


def put(path: Path, key: str | None) -> None:
    """As a vault does; None takes the file away."""
    if key is None:
        path.unlink()
    else:
        path.write_text(key)


# --- looking


def test_a_file_that_stays_as_it_is_brings_nothing(file: SecretFile) -> None:
    assert [file.look() for _ in range(3)] == [None] * 3
    assert file.trouble is None


def test_another_key_counts_once_it_was_found_twice(file: SecretFile, key_file: Path) -> None:
    key_file.write_text(NEW[:9])  # half-written
    assert file.look() is None
    key_file.write_text(NEW + "\n")
    assert [file.look() for _ in range(3)] == [None, NEW, None]


def test_a_file_that_is_replaced_as_vaults_do_is_seen(file: SecretFile, key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "next").write_text(NEW)
    (tmp_path / "next").rename(key_file)
    assert [file.look() for _ in range(2)] == [None, NEW]


def test_the_former_key_may_come_back(file: SecretFile, key_file: Path) -> None:
    seen = []
    for key in (NEW, OLD):
        key_file.write_text(key)
        seen += [file.look() for _ in range(2)]
    assert seen == [None, NEW, None, OLD]


@pytest.mark.parametrize(
    ("spoil", "trouble"),
    [
        (Path.unlink, "No such file or directory"),
        (lambda path: path.write_text(""), "it is empty"),
        (lambda path: path.write_text(" \n"), "it is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "it is not UTF-8 text"),
        (
            lambda path: path.write_text("two\nlines"),
            "must be one line of printable ASCII: it travels in an HTTP header",
        ),
    ],
    ids=["gone", "empty", "blank", "not text", "two lines"],
)
def test_what_can_be_no_key_is_told_and_changes_nothing(
    file: SecretFile, key_file: Path, spoil: Callable[[Path], Any], trouble: str
) -> None:
    spoil(key_file)
    assert [file.look() for _ in range(3)] == [None] * 3
    assert file.trouble == trouble
    key_file.write_text(NEW)
    assert [file.look() for _ in range(2)] == [None, NEW]
    assert file.trouble is None


@pytest.mark.usefixtures("settings")
def test_a_file_that_was_empty_at_the_start_may_be_filled_later(key_file: Path) -> None:
    key_file.write_text("")
    late = SecretFile(load_settings(), "connected_you_api_key")
    key_file.write_text(NEW)
    assert [late.look() for _ in range(2)] == [None, NEW]


# --- the server's part


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[StringIO]:
    """As a server logs, with the secrets that it knew at its start."""
    monkeypatch.setattr(renewing, "LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(logs, "_learned", [])
    stream, hook, config = StringIO(), sys.excepthook, structlog.get_config()
    configure_logging(json=True, stream=stream, known_secrets=settings.secrets())
    yield stream
    structlog.configure(**config)
    for handler in logging.root.handlers[:]:
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
            logging.root.removeHandler(handler)
    logging.captureWarnings(capture=False)
    sys.excepthook = hook


@asynccontextmanager
async def watched(settings: Settings, provider: EsimProvider) -> AsyncIterator[None]:
    watch = asyncio.create_task(keep_credential_current(settings, provider))
    yield
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await provider.close()


async def ordered(provider: EsimProvider) -> None:
    request = ProvisionRequest(1, "order-1", "CY-ES-5GB", "Spain 5GB", "ES", "ana@example.com", "Ana Traveller")
    await provider.provision(provider.prepare(request), may_send=lambda: True)


async def test_the_next_order_uses_the_new_key(
    settings: Settings, key_file: Path, log: StringIO, tmp_path: Path
) -> None:
    async with StandIn(ledger=tmp_path / "ledger.jsonl", fsync=False, api_key=NEW) as supplier:
        live = settings.model_copy(update={"connected_you_base_url": supplier.url})
        provider = get_esim_provider(live)
        async with watched(live, provider):
            with pytest.raises(SupplierRefused):
                await ordered(provider)
            put(key_file, NEW)
            await until(lambda: "secrets.renewed" in log.getvalue())
            await ordered(provider)
    assert len(supplier.issued) == 1
    assert NEW not in log.getvalue()


async def test_a_key_is_redacted_before_it_is_used_and_the_former_one_after_it(
    settings: Settings, key_file: Path, log: StringIO
) -> None:
    provider = get_esim_provider(settings)
    assert isinstance(provider, TakesCredential)
    used = []

    def use(credential: str) -> None:
        used.append(credential)
        structlog.get_logger().warning("supplier.said", words=f"{credential} is new, {OLD} was before")

    provider.use_credential = use  # type: ignore[method-assign]  # what a supplier's adapter might say of it
    async with watched(settings, provider):
        put(key_file, NEW)
        await until(lambda: used)
    assert used == [NEW]
    assert "[redacted] is new, [redacted] was before" in log.getvalue()


async def test_an_answer_that_repeats_the_former_key_is_redacted(settings: Settings, tmp_path: Path) -> None:
    async with StandIn(ledger=tmp_path / "ledger.jsonl", fsync=False, api_key=NEW) as supplier:
        provider = get_esim_provider(settings.model_copy(update={"connected_you_base_url": supplier.url}))
        assert isinstance(provider, TakesCredential)
        provider.use_credential(NEW)
        supplier.script(respond(422, f"neither {OLD} nor {NEW}"))
        with pytest.raises(SupplierRefused) as refused:
            await ordered(provider)
        await provider.close()
    assert "neither [redacted] nor [redacted]" in str(refused.value)


async def test_a_file_that_vanishes_is_a_warning_once_and_the_key_stays(
    settings: Settings, key_file: Path, log: StringIO
) -> None:
    provider = get_esim_provider(settings)
    async with watched(settings, provider):
        put(key_file, None)
        await until(lambda: "secrets.file_not_usable" in log.getvalue())
        put(key_file, NEW)
        await until(lambda: "secrets.renewed" in log.getvalue())
    assert log.getvalue().count("secrets.file_not_usable") == 1
    assert '"level": "warning"' in log.getvalue().splitlines()[0]


async def test_a_key_that_came_from_no_file_is_not_looked_for(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    monkeypatch.setenv("CONNECTED_YOU_API_KEY", OLD)
    monkeypatch.setenv("CONNECTED_YOU_API_KEY_FILE", str(key_file))
    monkeypatch.setenv("ESIM_PROVIDER", "CONNECTED_YOU")
    settings = load_settings()
    assert settings.file_of("connected_you_api_key") is None
    async with asyncio.timeout(30):
        await keep_credential_current(settings, get_esim_provider(settings))


async def test_a_provider_without_a_credential_has_nothing_to_be_read_again(settings: Settings) -> None:
    async with asyncio.timeout(30):
        await keep_credential_current(
            settings, get_esim_provider(settings.model_copy(update={"esim_provider": "LOCAL"}))
        )
