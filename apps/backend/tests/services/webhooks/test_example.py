"""`examples/webhook_receiver.py` takes our messages, once each, and nobody else's."""

import asyncio
import sys
from pathlib import Path

from app.services.webhooks.line import Answer, Line, Message
from app.settings import BACKEND_DIR
from tests.processes.programs import a_free_port, until

EXAMPLE = BACKEND_DIR.parents[1] / "examples" / "webhook_receiver.py"
SECRET, OTHER = "whsec_c2VjcmV0LW9mLXRlc3Rz", "whsec_b3RoZXItc2VjcmV0"


async def test_the_example_works_on_each_event_once_and_refuses_what_is_not_ours(tmp_path: Path) -> None:
    port = a_free_port()
    environment = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_FILE": str(tmp_path / "heard.sqlite")}
    program = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), str(port), env=environment, stdout=asyncio.subprocess.PIPE
    )
    line = Line(allow_private=True)

    async def post(message_id: str, *secrets: str) -> Answer:
        body = '{"type":"order.paid","timestamp":"2026-11-23T12:00:00.000Z","data":{"order_id":7,"name":"é"}}'
        return await line.post(Message(message_id, f"http://127.0.0.1:{port}/", body, secrets))

    async def is_there() -> bool:
        return (await post("msg_0", OTHER)).status == 401

    try:
        await until(is_there)
        statuses = [
            (await post(*sent)).status for sent in (("msg_1", SECRET), ("msg_1", SECRET), ("msg_2", OTHER, SECRET))
        ]
        assert statuses == [204, 204, 204]
    finally:
        await line.close()
        program.terminate()
        printed, _ = await program.communicate()
    assert printed.decode().count("order.paid {'order_id': 7") == 2
