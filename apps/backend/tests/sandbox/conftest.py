"""The sandbox as `tribi sandbox` starts it without options."""

from collections.abc import AsyncIterator

import pytest

from tests.sandbox.running import Sandbox, a_sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with a_sandbox() as running:
        yield running
