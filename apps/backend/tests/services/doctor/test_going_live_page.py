"""docs/going_live.md: every line of the command, no other, and its commands work as they are written."""

import re
from pathlib import Path

from tests.services.doctor.test_examine import ALWAYS
from tests.walks import ROOT, Clone, url_of_sandbox, url_of_server, walk_of

PAGE = "docs/going_live.md"
SOMETIMES = {
    "settings",
    "installation",
    "catalogue-doubts",
    "webhook-endpoints",
    "live-purchase",
    "live-status",
    "live-data.…",
    "live-warnings",
}


def test_the_page_has_every_line_and_no_other() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / PAGE).read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted({*ALWAYS, *SOMETIMES, "question-…"})


def test_its_links_lead_somewhere() -> None:
    text = (ROOT / PAGE).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / target).exists(), target


def in_one_line(text: str) -> str:
    """Without the folds and columns of a table, which go by the longest path in it."""
    return " ".join(text.split())


def transcripts(sandbox_url: str) -> list[str]:
    """What the page shows of the terminal, as patterns: … stands for anything."""
    shown = re.findall(r"```text\n(.*?)```", (ROOT / PAGE).read_text(), re.DOTALL)
    assert len(shown) == 2
    here = sandbox_url.removeprefix("http://")
    return [re.escape(in_one_line(text).replace("127.0.0.1:9000", here)).replace("…", ".*?") for text in shown]


def test_the_rehearsal_works_as_written(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    with (
        clone.running(walk_of(PAGE, "sandbox"), url_of_sandbox) as sandbox_url,
        clone.running(walk_of(PAGE, "serve").replace("http://127.0.0.1:9000", sandbox_url), url_of_server),
    ):
        script = walk_of(PAGE, "doctor").replace("http://127.0.0.1:9000", sandbox_url)
        said = clone.walk("export PYTHONUNBUFFERED=1\nexec 2>&1\n" + script)
    assert re.search(".*?".join(transcripts(sandbox_url)), in_one_line(said)), said
    assert '"LPA:1$SANDBOX.TRIBI.INVALID$' in said
    report = (tmp_path / "going-live.md").read_text()
    assert "one eSIM was bought: order-1 is eSIM 1" in report
    assert "LPA:1$SANDBOX" not in report
