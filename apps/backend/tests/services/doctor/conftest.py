"""An installation to examine. Its database is spoken to directly: what its sessions are like is part of what is looked at."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.db import Database
from app.house import House
from app.services.doctor.findings import Finding, Result
from app.settings import Settings
from app.vault import Keyring
from tests.conftest import KEY
from tests.stand_in import StandIn
from tests.stand_in.certificates import Certificates

API_KEY = "key-of-tests"

Live = Callable[..., Settings]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def settings(direct_url: str, tmp_path: Path) -> Settings:
    """ConnectedYou in a dry run."""
    return settings_on(direct_url, tmp_path)


def settings_on(url: str, folder: Path, **more: Any) -> Settings:
    values = {"esim_provider": "CONNECTED_YOU", "connected_you_partner_id": "partner-of-tests"} | more
    return Settings(
        database_url=SecretStr(url), encryption_key=SecretStr(KEY), tribi_data_dir=folder / "data", **values
    )


@pytest.fixture
def live(settings: Settings) -> Live:
    """The same, buying at an address."""

    def at(url: str, **more: Any) -> Settings:
        switched = {
            "connected_you_dry_run": False,
            "connected_you_base_url": url,
            "connected_you_api_key": SecretStr(API_KEY),
            "connected_you_timeout_seconds": 5,
        }
        return settings.model_copy(update=switched | more)

    return at


async def a_house(settings: Settings) -> House:
    """Whoever asks for one closes its database."""
    assert settings.database_url is not None
    house = House(settings, Database(settings.database_url.get_secret_value(), pool_size=4), Keyring.parse(KEY))
    await house.settle()
    return house


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    house = await a_house(settings)
    yield house
    await house.db.close()


@pytest.fixture
async def supplier(tmp_path: Path) -> AsyncIterator[StandIn]:
    async with StandIn(ledger=tmp_path / "ledger.jsonl", fsync=False, api_key=API_KEY) as stand_in:
        yield stand_in
        assert stand_in.violations == []


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def results(findings: list[Finding]) -> dict[str, str]:
    return {name: finding.result.value for name, finding in by_name(findings).items()}


def the_failure(findings: list[Finding]) -> Finding:
    """The one line that failed. It says what to do."""
    [failure] = [finding for finding in findings if finding.result is Result.FAILED]
    assert failure.to_do
    return failure
