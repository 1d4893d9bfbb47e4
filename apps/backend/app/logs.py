"""Interim; being written."""
import logging
from collections.abc import Iterable
from typing import Any
def configure_logging(*, json: bool | None = None, level: str = "INFO", stream: Any = None, known_secrets: Iterable[str] = ()) -> None:
    logging.basicConfig(level=level)
