"""The checklist as a document to keep: dated, with the version and the settings, without anything secret or personal."""

import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version

from pydantic import SecretStr

from app.redaction import redact
from app.services.doctor.findings import Finding, Result
from app.settings import BACKEND_DIR, Settings

_NOT_SHOWN = {"connected_you_partner_id", "mail_from"}
"""No secrets by their type, but they name an account or a person."""


def write_report(findings: Sequence[Finding], settings: Settings | None, at: datetime) -> str:
    """
    Markdown.

    Args:
        settings: None where they couldn't be read.
        at: in UTC.
    """
    counts = Counter(finding.result for finding in findings)
    lines = [
        f"# Tribi's go-live checklist, {at:%Y-%m-%d %H:%M} UTC",
        "",
        f"Tribi {version('tribi')}, commit {commit() or 'not known'}. "
        + ", ".join(f"{counts[result]} {result.value}" for result in Result)
        + ".",
        "",
        "| result | line | found | to do |",
        "|---|---|---|---|",
        *(_row(found.result.value, found.name, found.detail, found.to_do or "") for found in findings),
        "",
        "## Settings",
        "",
    ]
    if settings is None:
        lines.append("They could not be read.")
    else:
        lines += ["| setting | value |", "|---|---|"]
        lines += [_row(name.upper(), _shown(name, getattr(settings, name))) for name in type(settings).model_fields]
    text = "\n".join(lines) + "\n"
    return redact(text, settings.secrets() if settings is not None else ())


def _shown(name: str, value: object) -> str:
    if value is None:
        return "(unset)"
    return "(set)" if isinstance(value, SecretStr) or name in _NOT_SHOWN else str(value)


def _row(*cells: str) -> str:
    # what a provider or a file's name holds may not end a cell or a line
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def commit() -> str | None:
    """Of the clone that runs; None where it is none, or there is no git."""
    try:
        done = subprocess.run(  # noqa: S603 - no word of it comes from outside
            ["git", "-C", str(BACKEND_DIR), "rev-parse", "HEAD"],  # noqa: S607 - whichever git is installed
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
