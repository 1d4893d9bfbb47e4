"""The README's walk works as it is written."""

import re
from pathlib import Path

import zxingcpp
from PIL import Image

from app.settings import BACKEND_DIR
from tests.cli.test_tribi import COMMANDS
from tests.walks import Clone, url_of_server, walk_of


def test_the_walk_from_a_key_to_a_qr_code_works_as_written(tmp_path: Path) -> None:
    clone = Clone(tmp_path, {"ESIM_PROVIDER": "CONNECTED_YOU", "CONNECTED_YOU_PARTNER_ID": "my-partner-id"})
    with clone.running(".venv/bin/tribi serve", url_of_server) as url:
        said = clone.walk(walk_of("README.md").replace("http://127.0.0.1:8000", url))
    assert '"status":"provisioned"' in said
    [barcode] = zxingcpp.read_barcodes(Image.open(tmp_path / "qr.png"))
    assert barcode.text.startswith("LPA:1$")
    assert barcode.text in said


def test_it_names_every_command() -> None:
    readme = (BACKEND_DIR.parents[1] / "README.md").read_text()
    named = re.findall(r"`([a-z]+)(?: ([a-z|-]+))?`", readme.partition("## Commands")[2].partition("\n## ")[0])
    assert {f"{group} {one}".strip() for group, several in named for one in several.split("|")} - {"make"} == set(
        COMMANDS
    )
