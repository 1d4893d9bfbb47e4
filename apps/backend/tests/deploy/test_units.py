"""`deploy/systemd/`: units that systemd takes, with commands, settings and folders that exist."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from app.main import MISCONFIGURED
from app.services.esims.activate import DRAIN_MARGIN_S
from app.settings import Settings
from tests.cli.commands import is_understood
from tests.deploy.dockerfile import DEPLOY, ROOT, stages

FOLDER = DEPLOY / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
RUNNING = [unit for unit in UNITS if "Type=oneshot" not in unit.read_text()]
_SECRETS = "/etc/tribi/secrets/"
_READ_AGAIN = "CONNECTED_YOU_API_KEY_FILE"

every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


def values(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def environment(unit: Path) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in values(unit, "Environment") for pair in line.split())


@every_unit
def test_it_runs_a_command_of_ours(unit: Path) -> None:
    [line] = values(unit, "ExecStart")
    path, *words = shlex.split(line)
    assert path == "/opt/tribi/.venv/bin/tribi"
    assert is_understood(["tribi", *words])


@every_unit
def test_each_setting_is_one_and_each_secret_is_a_credential(unit: Path) -> None:
    files = {name: value for name, value in environment(unit).items() if name.endswith("_FILE")}
    assert {name.removesuffix("_FILE").lower() for name in environment(unit)} <= set(Settings.model_fields)
    credentials = dict(line.split(":", 1) for line in values(unit, "LoadCredential"))
    files.pop(_READ_AGAIN, None)
    assert {value.removeprefix("%d/") for value in files.values()} == set(credentials)
    assert credentials == {name: _SECRETS + name for name in credentials}


@pytest.mark.parametrize("unit", RUNNING, ids=lambda unit: unit.name)
def test_the_key_that_is_read_again_is_no_copy_made_at_the_start(unit: Path) -> None:
    """systemd fills a credential once: another key would never be seen, and the old one used until it is withdrawn."""
    place = Path(environment(unit)[_READ_AGAIN])
    assert "%d" not in str(place)
    assert str(place) in (ROOT / "docs" / "secrets.md").read_text()
    deployment = (ROOT / "docs" / "deployment.md").read_text()
    assert f"install -d -m 750 -g tribi {place.parent}\n" in deployment
    assert re.search(rf"install -m 400 -o tribi -g tribi \S+ {place}\s", deployment)


def test_the_common_settings_are_settings_and_none_of_them_is_a_secret() -> None:
    names = re.findall(r"^([A-Z_]+)=", (FOLDER / "tribi.env").read_text(), re.MULTILINE)
    assert names
    assert {name.lower() for name in names} <= set(Settings.model_fields)
    assert not any("SecretStr" in str(Settings.model_fields[name.lower()].annotation) for name in names)


@every_unit
def test_it_can_write_to_its_two_folders_alone(unit: Path) -> None:
    assert values(unit, "ProtectSystem") == ["strict"]
    [folders] = values(unit, "StateDirectory")
    image = stages()[-1].environment()
    places = {name: environment(unit)[name] for name in ("TRIBI_DATA_DIR", "TRIBI_JOURNAL_DIR")}
    assert {f"/var/lib/{folder}" for folder in folders.split()} == set(places.values())
    assert all(image[name] == place for name, place in places.items())
    assert values(unit, "ReadWritePaths") == []


@pytest.mark.parametrize("unit", RUNNING, ids=lambda unit: unit.name)
def test_it_is_not_killed_before_it_may_give_up_and_not_started_again_for_nothing(unit: Path) -> None:
    delay_s = float(environment(unit).get("SHUTDOWN_DELAY_SECONDS", 0))
    timeout_s = Settings.model_fields["connected_you_timeout_seconds"].default
    [stop] = values(unit, "TimeoutStopSec")
    assert float(stop) > delay_s + timeout_s + DRAIN_MARGIN_S
    assert values(unit, "RestartPreventExitStatus") == [str(MISCONFIGURED)]


def test_systemd_takes_them(tmp_path: Path) -> None:
    """Where this system has it; everything else about them is looked at everywhere."""
    for unit in UNITS:
        name = unit.name.replace("@", "@8001")
        (tmp_path / name).write_text(unit.read_text().replace("/opt/tribi/.venv/bin/tribi", shutil.which("env") or ""))
    if analyze := shutil.which("systemd-analyze"):
        command: list[str | Path] = [analyze, "verify", "--man=no", *sorted(tmp_path.iterdir())]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
