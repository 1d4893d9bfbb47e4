"""`deploy/compose.yaml`: what it sets exists, and nothing that the image needs is missing. docker-compose read it by hand."""

import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from app.services.esims.activate import DRAIN_MARGIN_S
from app.settings import Settings
from tests.cli.commands import is_understood
from tests.deploy.dockerfile import DEPLOY, ROOT, stages

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS: dict[str, dict[str, Any]] = {
    name: service for name, service in COMPOSE["services"].items() if service["image"] == "tribi"
}
SERVERS = {name: service for name, service in OURS.items() if service["command"][0] == "serve"}
_READ_AGAIN = "CONNECTED_YOU_API_KEY_FILE"
_UNITS = {"s": "seconds", "m": "minutes"}

every_one_of_ours = pytest.mark.parametrize("name", OURS)


def seconds(text: str) -> float:
    return timedelta(**{_UNITS[text[-1]]: float(text[:-1])}).total_seconds()


def test_there_are_a_migration_two_servers_and_a_worker() -> None:
    assert sorted(service["command"][0] for service in OURS.values()) == ["migrate", "serve", "serve", "worker"]


@every_one_of_ours
def test_its_command_is_one(name: str) -> None:
    assert is_understood(["tribi", *OURS[name]["command"]])


@every_one_of_ours
def test_each_setting_is_one_and_each_secret_is_there(name: str) -> None:
    service = OURS[name]
    files = {setting: value for setting, value in service["environment"].items() if setting.endswith("_FILE")}
    settings = {setting.removesuffix("_FILE").lower() for setting in service["environment"]}
    assert settings <= set(Settings.model_fields)
    files.pop(_READ_AGAIN)
    assert {path.removeprefix("/run/secrets/") for path in files.values()} == set(service["secrets"])
    assert set(service["secrets"]) <= set(COMPOSE["secrets"])


@every_one_of_ours
def test_the_key_that_is_read_again_lies_in_a_folder_that_is_mounted(name: str) -> None:
    """A file mounted by itself, as Compose's secrets are, stays the one that it was when another is renamed over it."""
    place = PurePosixPath(OURS[name]["environment"][_READ_AGAIN])
    [outside] = [
        volume.split(":")[0] for volume in OURS[name]["volumes"] if volume.split(":")[1:] == [str(place.parent), "ro"]
    ]
    assert f"`{PurePosixPath('deploy', outside, place.name)}`" in (ROOT / "docs" / "secrets.md").read_text()


def test_what_is_not_given_has_the_default_of_the_setting() -> None:
    [environment] = {tuple(service["environment"].items()) for service in OURS.values()}
    for setting, value in environment:
        if given := re.fullmatch(rf"\$\{{{setting}:-(.*)\}}", str(value)):
            default = Settings.model_fields[setting.lower()].default
            assert given[1] == ("" if default is None else str(default).lower() if default is True else str(default)), (
                setting
            )


def test_what_is_set_to_go_live_is_taken_from_its_env_file() -> None:
    """A spend cap, or production's address, in `deploy/.env` and not in here would be ignored without a word."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    [told] = re.findall(r"Settings go into `deploy/.env`.*?:(.*?)\. Others", text, re.DOTALL)
    taken = {name for service in OURS.values() for name, value in service["environment"].items() if "${" in str(value)}
    assert set(re.findall(r"`([A-Z_]+)`", told)) == taken
    [day] = re.findall(
        r"^2\. Set (.*?); start all", (ROOT / "docs" / "going_live.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert set(re.findall(r"`([A-Z_]+)(?:=\w+)?`", day)) <= taken
    assert "ORDER_ID_START" in taken


@every_one_of_ours
def test_it_can_write_to_its_volumes_alone_and_may_do_nothing_special(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own
    image = stages()[-1].environment()
    writable = dict(reversed(volume.split(":")) for volume in service["volumes"] if not volume.endswith(":ro"))
    assert set(writable) == {image["TRIBI_DATA_DIR"], image["TRIBI_JOURNAL_DIR"]}
    assert set(writable.values()) <= set(COMPOSE["volumes"])


@every_one_of_ours
def test_it_is_not_killed_before_it_may_give_up(name: str) -> None:
    service = OURS[name]
    timeout_s = Settings.model_fields["connected_you_timeout_seconds"].default
    delay_s = float(service["environment"]["SHUTDOWN_DELAY_SECONDS"])
    assert seconds(service["stop_grace_period"]) > delay_s + timeout_s + DRAIN_MARGIN_S


def test_nobody_serves_or_works_before_the_database_is_migrated() -> None:
    for name, service in OURS.items():
        needed = {"postgres": "service_healthy"} if name == "migrate" else {"migrate": "service_completed_successfully"}
        assert {what: how["condition"] for what, how in service["depends_on"].items()} == needed


def test_only_servers_have_a_port_to_be_asked_for_their_health() -> None:
    for name, service in OURS.items():
        assert service.get("healthcheck") == (None if name in SERVERS else {"disable": True})


def test_the_proxies_send_to_the_servers_ports_which_only_this_machine_reaches() -> None:
    ports = sorted(port for service in SERVERS.values() for port in service["ports"])
    inside = {port.rpartition(":")[2] for port in ports}
    assert inside == set(stages()[-1].all("EXPOSE"))
    reached = [port.rpartition(":")[0] for port in ports]
    assert all(address.startswith("127.0.0.1:") for address in reached)
    for proxy in ("nginx.conf", "Caddyfile"):
        text = re.sub(r"^\s*#.*$", "", (DEPLOY / proxy).read_text(), flags=re.MULTILINE)
        assert sorted(re.findall(r"127\.0\.0\.1:\d+", text)) == reached, proxy


def test_caddy_leaves_a_server_before_it_stops_listening_and_sends_nothing_twice() -> None:
    text = re.sub(r"^\s*#.*$", "", (DEPLOY / "Caddyfile").read_text(), flags=re.MULTILINE)
    interval, timeout = (re.search(rf"health_{what} (\S+)", text) for what in ("interval", "timeout"))
    assert interval
    assert timeout
    asked_within_s = 2 * (seconds(interval[1]) + seconds(timeout[1]))
    assert asked_within_s < float(stages()[-1].environment()["SHUTDOWN_DELAY_SECONDS"])
    assert "health_uri /readyz" in text
    assert "lb_retry_match" not in text
    assert "lb_try_duration" not in text


def test_secrets_are_kept_out_of_the_repository() -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"deploy/secrets/", "deploy/.env"} <= set(ignored)
    assert all(secret["file"].startswith("secrets/") for secret in COMPOSE["secrets"].values())
