"""The list of sabotages fits the product as it stands; `make chaos RUN=breaks` does them."""

import shutil
from pathlib import Path

import pytest

from app.settings import BACKEND_DIR
from tests.chaos.sabotage import SABOTAGES, Sabotage


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_sabotage_can_be_done(sabotage: Sabotage, tmp_path: Path) -> None:
    for edit in sabotage.edits:
        copy = tmp_path / edit.file
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(BACKEND_DIR / edit.file, copy)
        edit.make(tmp_path)
        compile(copy.read_text(), edit.file, "exec")
