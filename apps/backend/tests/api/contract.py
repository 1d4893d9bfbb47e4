"""The API's OpenAPI document as a file, for whoever writes a client: `python -m tests.api.contract` writes it anew."""

import json
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import Settings

CONTRACT = Path(__file__).resolve().parents[4] / "contracts" / "tribi.openapi.json"
REGENERATE = "in apps/backend, run `../../.venv/bin/python -m tests.api.contract` and look at the difference"


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    CONTRACT.write_text(as_text(create_app(Settings()).app.openapi()), encoding="utf-8")
