"""`docs/deployment.md`: whoever types what it shows gets what it says."""

import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from app.services.esims.activate import DRAIN_MARGIN_S
from app.settings import Settings, load_settings
from tests.cli.commands import is_understood
from tests.deploy.dockerfile import DEPLOY, ROOT, stages

PAGE = ROOT / "docs" / "deployment.md"
TEXT = PAGE.read_text()
_SECRETS = re.compile(r"<!-- secrets:.*?-->\n```sh\n(.*?)```", re.DOTALL)
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def lines() -> list[list[str]]:
    """The words of all lines to be typed but those of the secrets' block, which is run."""
    blocks = re.findall(r"```sh\n(.*?)```", _SECRETS.sub("", TEXT), re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line.strip()]


def test_the_secrets_that_it_makes_are_what_the_containers_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = _SECRETS.search(TEXT)
    assert block
    script = block[1].replace("sudo ", "") if os.geteuid() == 0 else block[1].replace("sudo chown", ": chown")
    (tmp_path / "deploy").mkdir()
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True)
    folder = tmp_path / "deploy" / "secrets"
    provider = folder / "provider"
    made = {path.name: path for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in folder.iterdir() if path != provider} == set(COMPOSE["secrets"])
    assert stat.S_IMODE(provider.stat().st_mode) == 0o700
    made_for = {*made.values(), provider}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.values()} == {0o600}
    if os.geteuid() == 0:
        assert {str(path.stat().st_uid) for path in made_for} == {stages()[-1].all("USER")[0].partition(":")[0]}
    for name, value in COMPOSE["services"]["api-1"]["environment"].items():
        if name.endswith("_FILE"):
            monkeypatch.setenv(name, str(made[Path(value).name]))
    settings = load_settings()
    assert settings.database_url is not None
    assert f":{made['database_password'].read_text().strip()}@" in settings.database_url.get_secret_value()
    assert settings.encryption_key is not None
    assert settings.connected_you_api_key is None  # empty is unset


def test_each_service_that_it_names_to_compose_is_one() -> None:
    commands = [words for words in lines() if words[:2] == ["docker", "compose"]]
    assert commands
    for words in commands:
        assert words[2:4] == ["-f", "deploy/compose.yaml"], words
        named = {word for word in words[5:] if re.fullmatch(r"[a-z]+(-\d)?", word)}
        if words[4] == "exec":
            place = next(place for place, word in enumerate(words) if word == "tribi")
            assert is_understood(words[place : words.index("<") if "<" in words else None]), words
            named = {words[place - 1]}
        assert named <= set(COMPOSE["services"]), words


def test_each_unit_that_it_names_is_one_and_each_file_is_there() -> None:
    units = {unit.name for unit in (DEPLOY / "systemd").glob("*.service")}
    for words in lines():
        if words[0] == "systemctl":
            named = {re.sub(r"@\d+$", "@", word) + ".service" for word in words[2:] if not word.startswith("--")}
            assert named <= units, words
        for word in words:
            if word.startswith(("deploy/", "examples/")):
                assert (ROOT / word).exists(), word


def test_nothing_else_is_to_be_typed() -> None:
    assert {words[0] for words in lines()} == {"curl", "docker", "install", "systemctl", "useradd"}


def test_each_command_and_setting_in_a_sentence_is_one() -> None:
    commands = [shlex.split(code) for code in re.findall(r"`(tribi [^`]+)`", TEXT)]
    assert commands
    assert all(is_understood(words) for words in commands)
    settings = set(
        re.findall(r"\b(?:TRIBI|CONNECTED_YOU|DATABASE|ESIM|PUBLIC|SHUTDOWN|ACTIVATION)_[A-Z_]*[A-Z]\b", TEXT)
    )
    assert {name.lower() for name in settings} <= set(Settings.model_fields)


def test_the_time_of_grace_that_it_tells_is_enough() -> None:
    [told] = set(re.findall(r"(?:terminationGracePeriodSeconds: |some: )(\d+)", TEXT))
    delay_s = float(stages()[-1].environment()["SHUTDOWN_DELAY_SECONDS"])
    assert float(told) > delay_s + Settings.model_fields["connected_you_timeout_seconds"].default + DRAIN_MARGIN_S


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT):
        assert (PAGE.parent / target).exists(), target
