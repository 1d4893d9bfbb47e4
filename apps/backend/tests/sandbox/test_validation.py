"""The blueprint's own command validates a sandbox: ours here, ConnectedYou's once there are credentials."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.sandbox.running import Sandbox

ROOT = Path(__file__).resolve().parents[4]
_COMMAND = ["-m", "pytest", "apps/backend/tests/test_esim_providers.py", "-k", "connected_you_sandbox"]


async def run(variables: Mapping[str, str]) -> tuple[int | None, str]:
    """The command's status and output, run in the repository's root as the blueprint writes it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *_COMMAND,
        *("-p", "no:cacheprovider"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COLUMNS": "500", **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    stdout, _ = await process.communicate()
    return process.returncode, stdout.decode()


async def validate(**variables: str) -> str:
    """The output of a run that fails nowhere."""
    status, said = await run(variables)
    assert status == 0, said
    return said


async def test_a_sandbox_is_validated_by_buying_one_esim(sandbox: Sandbox, tmp_path: Path) -> None:
    """Its settings may stand in the environment or in `.env`, where a dry run may be on."""
    file = tmp_path / "my.env"
    file.write_text("CONNECTED_YOU_API_KEY=any-key\nCONNECTED_YOU_DRY_RUN=true\n")
    said = await validate(
        TESTS_CONNECTED_YOU_PLAN_CODE="CY-FR-1GB",
        TESTS_CONNECTED_YOU_COUNTRY="FR",
        CONNECTED_YOU_BASE_URL=sandbox.url,
        CONNECTED_YOU_PARTNER_ID="any-partner",
        TRIBI_ENV_FILE=str(file),
    )
    assert " 5 passed, " in said
    ledger = await sandbox.ledger()
    assert (ledger["requests"], ledger["esims"]) == (3, 1)
    [bought] = [entry for entry in ledger["entries"] if entry["is_billed"]]
    assert (bought["plan_code"], bought["country_iso2"]) == ("CY-FR-1GB", "FR")


async def test_a_refusal_ends_with_what_they_said(sandbox: Sandbox) -> None:
    """One order is sent, not one for each test that wanted its eSIM; no traceback of ours hides their words."""
    status, said = await run(
        {
            "TESTS_CONNECTED_YOU_PLAN_CODE": "SANDBOX-OUT-OF-STOCK",
            "CONNECTED_YOU_BASE_URL": sandbox.url,
            "CONNECTED_YOU_API_KEY": "any-key",
            "CONNECTED_YOU_PARTNER_ID": "any-partner",
            "TRIBI_ENV_FILE": os.devnull,
        }
    )
    assert status == 1, said
    assert " 2 passed, " in said
    assert " 3 errors in " in said
    assert '"code": "out_of_stock"' in said
    assert "Traceback" not in said
    assert (await sandbox.ledger())["requests"] == 3


async def test_without_the_variable_nothing_is_bought_and_it_is_named(sandbox: Sandbox) -> None:
    credentials = {"CONNECTED_YOU_API_KEY": "any-key", "CONNECTED_YOU_PARTNER_ID": "any-partner"}
    said = await validate(CONNECTED_YOU_BASE_URL=sandbox.url, TRIBI_ENV_FILE=os.devnull, **credentials)
    assert " 5 skipped, " in said
    assert "if TESTS_CONNECTED_YOU_PLAN_CODE names one of their plans" in said
    assert (await sandbox.ledger())["requests"] == 0


async def test_without_credentials_they_are_named_too() -> None:
    said = await validate(TESTS_CONNECTED_YOU_PLAN_CODE="CY-ES-5GB", TRIBI_ENV_FILE=os.devnull)
    assert " 5 skipped, " in said
    assert "CONNECTED_YOU_API_KEY and CONNECTED_YOU_PARTNER_ID" in said
