"""Who does to a server what it asks for at a failpoint, while it stands still and waits for the answer (`strikes.ASK`)."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Act = Callable[[str, int], Awaitable[bool]]
"""Of an order's reference and the process that asks. Returns whether it has really happened."""


class Umpire:
    """
    Attributes:
        happened: references for which something was asked for and has happened.
        complaints: acts that failed, which no run may.
    """

    def __init__(self, acts: Mapping[str, Act]) -> None:
        self.happened: set[str] = set()
        self.complaints: list[str] = []
        self._acts = acts
        self._folder = Path(tempfile.mkdtemp(prefix="tribi-umpire-"))  # short: a socket's path may have 107 bytes
        self.path = str(self._folder / "socket")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._hear, self.path, backlog=512)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        shutil.rmtree(self._folder)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said: dict[str, Any] = {}
        try:
            said = json.loads(await reader.readline())
            if await self._acts[said["do"]](said["reference"], said["pid"]):
                self.happened.add(said["reference"])
            writer.write(b"{}\n")
            await writer.drain()
        except ConnectionError:
            pass  # who asked has been killed meanwhile
        except Exception as error:  # noqa: BLE001 - it fails the run, and not only a task that nobody looks at
            self.complaints.append(f"the umpire could not {said}: {error!r}")
        finally:
            writer.close()
