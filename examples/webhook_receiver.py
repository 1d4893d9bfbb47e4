"""
A receiver of Tribi's webhooks, with nothing but Python (3.9 or later) and a file to remember in: docs/webhooks.md.

    WEBHOOK_SECRET=whsec_… python examples/webhook_receiver.py     # listens on 127.0.0.1:8787
    WEBHOOKS_ALLOW_PRIVATE=true tribi webhooks add http://127.0.0.1:8787/    # on the same machine; prints the secret

In your own server use the library `standardwebhooks`; `is_ours` shows what it does.
"""

import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300


def is_ours(secret, headers, body):
    """Whether whoever sent this knows the secret, and sent it now. While a secret is rotated there are two signatures."""
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > TOLERANCE_S:
        return False
    key = b64decode(secret[len("whsec_") :])
    expected = b64encode(hmac.digest(key, f"{message_id}.{sent_at}.".encode() + body, hashlib.sha256))
    return any(
        version == "v1" and hmac.compare_digest(signature.encode(), expected)
        for version, _, signature in (one.partition(",") for one in headers.get("webhook-signature", "").split(" "))
    )


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not is_ours(os.environ["WEBHOOK_SECRET"], self.headers, body):
            self.answer(401)
            return
        with sqlite3.connect(os.environ.get("WEBHOOK_FILE", "webhooks.sqlite")) as database:
            database.execute("CREATE TABLE IF NOT EXISTS heard (message_id TEXT PRIMARY KEY, event TEXT)")
            stored = database.execute(
                "INSERT OR IGNORE INTO heard VALUES (?, ?)", (self.headers["webhook-id"], body.decode())
            )
        if stored.rowcount:  # else it came before, and our answer got lost
            event = json.loads(body)
            print(event["timestamp"], event["type"], event["data"], flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        """Only events are printed."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8787
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
