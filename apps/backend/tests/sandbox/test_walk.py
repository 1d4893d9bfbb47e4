"""The walk of docs/sandbox.md works as it is written."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from tests.walks import Clone, url_of_sandbox, url_of_server, walk_of

PAGE = "docs/sandbox.md"


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The storefront's end of the webhooks: its address, and the events that came."""
    events: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", events
        finally:
            server.shutdown()
            thread.join()


def test_the_walk_through_the_sandbox_works_as_written(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    with (
        receiver() as (own_url, events),
        clone.running(walk_of(PAGE, "sandbox"), url_of_sandbox) as sandbox_url,
        clone.running(_at(sandbox_url, walk_of(PAGE, "serve")), url_of_server) as tribi_url,
    ):
        script = walk_of(PAGE, "storefront").replace("http://127.0.0.1:8000", tribi_url)
        said = clone.walk(_at(sandbox_url, script).replace("http://127.0.0.1:3000", own_url))
    assert [line for line in said.splitlines() if line.startswith("HTTP ")] == [
        *("HTTP 201", "HTTP 200"),
        "HTTP 502",
        *("HTTP 502", "HTTP 200"),
    ]
    assert said.count('"status":"provisioned"') == 3
    assert said.count('"type":"/problems/provider-refused"') == 1
    assert said.count('"type":"/problems/activation-outcome-unknown"') == 1
    assert '{"requests": 1, "esims": 1, "repeated_purchases": 0' in said
    assert [event["percentage_consumed"] for event in events] == [80]


def _at(sandbox_url: str, script: str) -> str:
    assert "http://127.0.0.1:9000" in script
    return script.replace("http://127.0.0.1:9000", sandbox_url)
