"""Files that hold secrets are for their owner and group alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.services.doctor.findings import Finding
from app.services.doctor.secret_files import check_secret_files
from app.settings import Settings, load_settings
from tests.services.doctor.conftest import the_failure

SECRET = "a-key-of-thirteen"

Write = Callable[[str, str, int], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A file with a mode, in a folder that everybody may enter: a name, its content, its mode."""
    for folder in tmp_path.parents:
        if not folder.stat().st_mode & 0o001 and folder.owner() == tmp_path.owner():
            folder.chmod(folder.stat().st_mode | 0o001)  # pytest's own are closed
    tmp_path.chmod(0o755)
    monkeypatch.setenv("TRIBI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ESIM_PROVIDER", "CONNECTED_YOU")

    def make(name: str, content: str, mode: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    return make


async def found() -> Finding:
    [finding] = await check_secret_files(load_settings())
    return finding


@pytest.mark.parametrize(
    ("mode", "result"), [(0o600, "passed"), (0o640, "passed"), (0o444, "failed"), (0o644, "failed"), (0o602, "failed")]
)
async def test_a_secrets_file_is_not_for_everybody(
    write: Write, monkeypatch: pytest.MonkeyPatch, mode: int, result: str
) -> None:
    path = write("key", SECRET, mode)
    monkeypatch.setenv("CONNECTED_YOU_API_KEY_FILE", str(path))
    finding = await found()
    assert finding.result.value == result
    assert str(path) in finding.detail
    assert (finding.to_do or "").startswith(f"chmod o= {path}") == (result == "failed")
    assert SECRET not in repr(finding)


async def test_a_file_in_a_folder_that_others_cannot_enter_is_closed(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("closed/key", SECRET, 0o644)
    path.parent.chmod(0o700)
    monkeypatch.setenv("CONNECTED_YOU_API_KEY_FILE", str(path))
    assert (await found()).result.value == "passed"


@pytest.mark.parametrize(
    ("line", "result"), [(f"CONNECTED_YOU_API_KEY={SECRET}", "failed"), ("LOG_LEVEL=INFO", "passed")]
)
async def test_env_counts_where_it_holds_a_secret(
    write: Write, monkeypatch: pytest.MonkeyPatch, line: str, result: str
) -> None:
    path = write(".env", line, 0o644)
    monkeypatch.setitem(Settings.model_config, "env_file", path)
    finding = await found()
    assert finding.result.value == result
    assert (str(path) in finding.detail) == (result == "failed")


async def test_the_embedded_databases_key_counts(write: Write) -> None:
    path = write("data/encryption.key", "any", 0o644)
    assert str(path) in the_failure([await found()]).detail


async def test_a_key_beside_a_database_of_ones_own_is_none_of_ours(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("data/encryption.key", "any", 0o644)
    monkeypatch.setenv("DATABASE_URL", "postgresql:///tribi")
    assert (await found()).detail == "no file holds a secret; the environment does, or there is none"
