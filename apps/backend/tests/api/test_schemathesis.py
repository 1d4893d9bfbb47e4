"""Schemathesis against the served application: all its checks, valid and invalid data, and chains of calls, find nothing."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from app.services.accounts import code_hash
from tests.api.conftest import a_database, a_shop, settings_on
from tests.api.fuzzing import SKU
from tests.builders import a_plan

BACKEND = Path(__file__).resolve().parents[2]
EXAMPLES = 50
"""An operation and phase; SCHEMATHESIS_EXAMPLES asks for more."""

ARGUMENTS = (
    "run",
    "--phases=examples,coverage,fuzzing,stateful",
    "--checks=all",
    "--mode=all",
    f"--max-examples={os.environ.get('SCHEMATHESIS_EXAMPLES') or EXAMPLES}",
    f"--seed={os.environ.get('SCHEMATHESIS_SEED') or 1}",
    "--generation-database=none",
    "--continue-on-failure",
    "--no-color",
)


@pytest.mark.without_pgbouncer  # it takes longer than all others together, and what it varies is HTTP
async def test_schemathesis_finds_nothing(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_hash, "COST", 2**4)  # the server is one of this process
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url)) as shop:
            await a_plan(shop.db, sku=SKU)
            for _ in range(3):
                await shop.activate((await shop.ordered())["id"])
            placed = await shop.ordered()
            secret = shop.bearer["Authorization"].removeprefix("Bearer ")
            (tmp_path / "schemathesis.toml").write_text(f'[auth.openapi.serviceKey]\nbearer = "{secret}"\n')
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "schemathesis.cli",
                *ARGUMENTS,
                f"{shop.url}/api/openapi.json",
                cwd=tmp_path,
                env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.api.fuzzing", "PYTHONPATH": str(BACKEND)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            printed, _ = await process.communicate()
            assert process.returncode == 0, printed.decode()
            assert "Selected: 27/27" in printed.decode(), "an operation was left out"
            newest = (await shop.get("/api/orders?limit=1")).json()["items"][0]
            assert newest["id"] > placed["id"] + 10, "the key was of no use: hardly an order was placed"
