"""Settings: where they come from, and what stops the start."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.errors import ConfigurationError
from app.settings import BACKEND_DIR, Settings, load_settings

A_KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty .env that the settings are read from."""
    path = tmp_path / "dot-env"
    path.touch()
    monkeypatch.setitem(Settings.model_config, "env_file", path)
    return path


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def mistakes(**environment: str) -> list[str]:
    """The lines with which a start in this environment stops."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(ConfigurationError) as stopped:
            load_settings()
    return str(stopped.value).splitlines()


# Where a value comes from


def test_the_environment_goes_before_the_env_file(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("CONNECTED_YOU_PARTNER_ID=from-the-file\n")
    monkeypatch.setenv("CONNECTED_YOU_PARTNER_ID", "from-the-environment")
    assert load_settings().connected_you_partner_id == "from-the-environment"


@pytest.mark.parametrize("where", ["environment", "env file"])
def test_a_value_goes_before_the_file_that_x_file_names(
    where: str, env_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "partner").write_text("from-the-named-file")
    monkeypatch.setenv("CONNECTED_YOU_PARTNER_ID_FILE", str(tmp_path / "partner"))
    if where == "environment":
        monkeypatch.setenv("CONNECTED_YOU_PARTNER_ID", "the-value")
    else:
        env_file.write_text("CONNECTED_YOU_PARTNER_ID=the-value\n")
    assert load_settings().connected_you_partner_id == "the-value"


def test_a_file_whose_value_is_not_wanted_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTED_YOU_PARTNER_ID_FILE", "/there/is/no/such/file")
    monkeypatch.setenv("CONNECTED_YOU_PARTNER_ID", "the-value")
    assert load_settings().connected_you_partner_id == "the-value"


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_can_come_from_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {
        "esim_provider": "CONNECTED_YOU",
        "connected_you_base_url": "https://api.example.com",
        "connected_you_unknown_outcome": "Replay",
        "database_url": "postgresql://h/d",
        "encryption_key": A_KEY,
        "public_url": "https://esims.example.com",
        "smtp_url": "smtp://h",
        "mail_from": "esims@example.com",
        "support_contact": "help@example.com",
        "default_language": "ES",
        "trusted_proxies": "10.1.0.0/16",
        "log_level": "DEBUG",
    }.get(name, "1")
    (tmp_path / "file").write_text(value + "\n")
    if name == "smtp_url":
        monkeypatch.setenv("MAIL_FROM", "esims@example.com")
    monkeypatch.setenv(f"{name.upper()}_FILE", str(tmp_path / "file"))
    assert name in load_settings().model_fields_set


def test_x_file_may_stand_in_the_env_file(env_file: Path, tmp_path: Path) -> None:
    (tmp_path / "partner").write_text("from-the-named-file")
    env_file.write_text(f"CONNECTED_YOU_PARTNER_ID_FILE={tmp_path / 'partner'}\n")
    assert load_settings().connected_you_partner_id == "from-the-named-file"


@pytest.mark.parametrize("nothing", ["", " ", "\t\n"])
def test_an_empty_variable_counts_as_unset(nothing: str, env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("CONNECTED_YOU_PARTNER_ID=from-the-file\n")
    monkeypatch.setenv("CONNECTED_YOU_PARTNER_ID", nothing)
    monkeypatch.setenv("CONNECTED_YOU_TIMEOUT_SECONDS", nothing)
    monkeypatch.setenv("DATABASE_URL_FILE", nothing)
    settings = load_settings()
    assert settings.connected_you_partner_id == "from-the-file"
    assert settings.connected_you_timeout_seconds == 15
    assert settings.database_url is None


@pytest.mark.parametrize("nothing", ["", "''", "'  '"])
def test_an_empty_line_of_the_env_file_counts_as_unset(nothing: str, env_file: Path, tmp_path: Path) -> None:
    (tmp_path / "partner").write_text("from-the-named-file")
    env_file.write_text(f"CONNECTED_YOU_PARTNER_ID={nothing}\nCONNECTED_YOU_PARTNER_ID_FILE={tmp_path / 'partner'}\n")
    assert load_settings().connected_you_partner_id == "from-the-named-file"


@pytest.mark.parametrize("nothing", ["", "\n", " \r\n"])
def test_an_empty_named_file_counts_as_unset(nothing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECTED_YOU_TIMEOUT_SECONDS", "ENCRYPTION_KEY", "ESIM_PROVIDER"):
        (tmp_path / name).write_text(nothing)
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = load_settings()
    assert (settings.connected_you_timeout_seconds, settings.encryption_key, settings.esim_provider) == (
        15,
        None,
        "LOCAL",
    )


def test_white_space_around_a_value_is_dropped(env_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("the-api-key\r\n")
    env_file.write_text("CONNECTED_YOU_PARTNER_ID=' the-partner '\n")
    monkeypatch.setenv("CONNECTED_YOU_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("ESIM_PROVIDER", " connected_you ")
    monkeypatch.setenv("CONNECTED_YOU_DRY_RUN", " false\n")
    monkeypatch.setenv("CONNECTED_YOU_BASE_URL", " https://api.example.com/ ")
    settings = load_settings()
    assert settings.connected_you_api_key is not None
    assert settings.connected_you_api_key.get_secret_value() == "the-api-key"
    assert settings.connected_you_partner_id == "the-partner"
    assert settings.is_live
    assert settings.connected_you_base_url == "https://api.example.com"


@pytest.mark.parametrize(
    "name", ["CONNECTED_YOU_API_KEY", "CONNECTED_YOU_PARTNER_ID", "DATABASE_URL", "ENCRYPTION_KEY", "SMTP_URL"]
)
def test_a_secret_that_is_set_to_nothing_comes_from_its_file(
    name: str, env_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {
        "DATABASE_URL": "postgresql://tribi:hunter2@h/d",
        "ENCRYPTION_KEY": A_KEY,
        "SMTP_URL": "smtp://u:hunter2@h",
    }.get(name, "hunter2")
    (tmp_path / "secret").write_text(f"{secret}\n")
    env_file.write_text(f"{name}=\n")
    monkeypatch.setenv(name, " ")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("MAIL_FROM", "esims@example.com")
    settings = load_settings()
    assert secret in settings.secrets()
    assert settings.file_of(name.lower()) == tmp_path / "secret"


def test_a_value_that_came_from_no_file_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTED_YOU_API_KEY", "the-api-key")
    monkeypatch.setenv("CONNECTED_YOU_API_KEY_FILE", str(tmp_path / "not-looked-at"))
    assert load_settings().file_of("connected_you_api_key") is None


# What they are without being set


def test_the_defaults_are_the_designs() -> None:
    settings = load_settings()
    assert settings.model_fields_set == set()
    assert settings.model_dump() == {
        "esim_provider": "LOCAL",
        "connected_you_base_url": "https://sandbox.api.connectedyou.com",
        "connected_you_api_key": None,
        "connected_you_partner_id": None,
        "connected_you_timeout_seconds": 15,
        "connected_you_dry_run": True,
        "connected_you_allow_http": False,
        "connected_you_unknown_outcome": "hold",
        "connected_you_replay_hours": 24,
        "connected_you_webhook_header": "x-webhook-secret",
        "connected_you_webhook_secret": None,
        "activation_wait_seconds": None,
        "provider_max_concurrency": 1000,
        "provider_circuit_failures": 20,
        "live_esims_per_hour": 0,
        "live_esims_per_day": 0,
        "key_rate_limit": 0,
        "database_url": None,
        "database_pool_size": 10,
        "tribi_data_dir": BACKEND_DIR / ".data",
        "tribi_journal_dir": None,
        "order_id_start": 1,
        "install_link_days": 180,
        "shutdown_delay_seconds": 0.0,
        "encryption_key": None,
        "public_url": None,
        "trusted_proxies": None,
        "smtp_url": None,
        "mail_from": None,
        "mail_from_name": None,
        "support_contact": None,
        "default_language": "en",
        "webhooks_allow_private": False,
        "log_level": "INFO",
    }
    assert settings.wait_s == 20
    assert settings.is_embedded
    assert not settings.is_live


def test_the_blueprints_six_settings_have_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    six = {
        "ESIM_PROVIDER": "CONNECTED_YOU",
        "CONNECTED_YOU_BASE_URL": "https://api.example.com",
        "CONNECTED_YOU_API_KEY": "the-api-key",
        "CONNECTED_YOU_PARTNER_ID": "the-partner",
        "CONNECTED_YOU_TIMEOUT_SECONDS": "7.5",
        "CONNECTED_YOU_DRY_RUN": "false",
    }
    for name, value in six.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.model_fields_set == {name.lower() for name in six}
    assert settings.is_live
    assert settings.provider_timeout_s == 7.5
    assert settings.wait_s == 12.5


def test_a_missing_key_or_partner_id_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESIM_PROVIDER", "CONNECTED_YOU")
    monkeypatch.setenv("CONNECTED_YOU_DRY_RUN", "false")
    settings = load_settings()
    assert settings.is_live
    assert settings.connected_you_api_key is None
    assert settings.connected_you_partner_id is None


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().esim_provider = "CONNECTED_YOU"  # type: ignore[misc]  # that is the point


# What stops the start

NUMBERS = ["five", "1,5", "-1", "0", "nan", "inf", "-inf", "1e999"]

REFUSED = [
    *[("ESIM_PROVIDER", value) for value in ("CONNECTEDYOU", "none")],
    *[("CONNECTED_YOU_DRY_RUN", value) for value in ("maybe", "2", "true false")],
    *[("CONNECTED_YOU_ALLOW_HTTP", value) for value in ("maybe", "-1")],
    *[("CONNECTED_YOU_UNKNOWN_OUTCOME", value) for value in ("retry", "true")],
    *[("CONNECTED_YOU_REPLAY_HOURS", value) for value in (*NUMBERS, "8761")],
    *[("CONNECTED_YOU_TIMEOUT_SECONDS", value) for value in (*NUMBERS, "601")],
    *[("ACTIVATION_WAIT_SECONDS", value) for value in (*NUMBERS, "601")],
    *[("PROVIDER_MAX_CONCURRENCY", value) for value in (*NUMBERS, "1.5", "100001")],
    *[
        (name, value)
        for name in ("LIVE_ESIMS_PER_HOUR", "LIVE_ESIMS_PER_DAY")
        for value in ("five", "1.5", "-1", "1000001")
    ],
    *[("DATABASE_POOL_SIZE", value) for value in (*NUMBERS, "1.5", "201")],
    *[
        (name, value)
        for name in ("CONNECTED_YOU_BASE_URL", "PUBLIC_URL")
        for value in (
            "api.example.com",
            "ftp://api.example.com",
            "https:api.example.com",
            "https://",
            "https://api.example.com:port",
            "https://api.example.com:0",
            "https://api.example.com:70000",
            "https://[::1",
            "https://ex ample.com",
            "https://ex\tample.com",
            "https://user@api.example.com",
            "https://user:pa/ss@api.example.com",
            "https://api.example.com?",
            "https://api.example.com/?page=1",
            "https://api.example.com/#top",
        )
    ],
    *[
        ("CONNECTED_YOU_BASE_URL", url)
        for url in (
            "http://api.example.com",
            "HTTP://api.example.com",
            "http://10.0.0.1",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
        )
    ],
    *[("CONNECTED_YOU_API_KEY", value) for value in ("two\nlines", "schlüssel")],
    *[
        ("DATABASE_URL", url)
        for url in (
            "mysql://user:hunter2@host/name",
            "sqlite:///hunter2.db",
            "host/name",
            "postgresql:host",
            "postgresql://user:hunter2@host:port/name",
            "postgresql://user:hunter2@host:70000/name",
            "postgresql://user:hunt/er2@host/name",
            "postgresql://user:hunt@er2@host/name",
            "postgresql://host/name?no_such_option=hunter2",
        )
    ],
    *[
        ("ENCRYPTION_KEY", text)
        for text in (
            "not base64!",
            "schlüssel",
            base64.b64encode(bytes(31)).decode(),
            base64.b64encode(bytes(33)).decode(),
            base64.b64encode(bytes(16)).decode(),
            f"{A_KEY},{base64.b64encode(bytes(31)).decode()}",
            f"not base64!,{A_KEY}",
            f"{A_KEY},",
            f"{A_KEY} {A_KEY}",
        )
    ],
    *[
        ("SMTP_URL", url)
        for url in ("mail.example.com", "http://mail.example.com", "smtp://", "smtp://u:hunt/er2@h:587")
    ],
    *[("MAIL_FROM", address) for address in ("nobody", "Tribi <esims@example.com>", "a@b@example.com")],
    ("MAIL_FROM_NAME", "Tribi\nBcc: eve@example.com"),
    *[
        ("SUPPORT_CONTACT", contact)
        for contact in ("nobody", "ftp://example.com", "https://", "https://u:p@example.com", "Help <help@example.com>")
    ],
    ("DEFAULT_LANGUAGE", "it"),
    ("LOG_LEVEL", "LOUD"),
]


def test_the_address_of_a_help_page_is_kept_to_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPORT_CONTACT", "https://example.com/help/?a=1&b=2#esim")
    assert load_settings().support_contact == "https://example.com/help/?a=1&b=2#esim"


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_cannot_be_stops_the_start_with_one_line_that_names_the_variable(name: str, value: str) -> None:
    [line] = mistakes(**{"MAIL_FROM": "esims@example.com", name: value})
    assert line.startswith(f"{name}: ")
    assert len(line) > len(f"{name}: ")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, value in REFUSED if len(value) > 8])
def test_the_line_does_not_repeat_the_value(name: str, value: str) -> None:
    [line] = mistakes(**{"MAIL_FROM": "esims@example.com", name: value})
    assert value not in line
    for part in ("hunter2", "hunt", "er2", "pa/ss", "'pa'", A_KEY, "schlüssel"):
        assert part not in line


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    lines = mistakes(
        ESIM_PROVIDER="nobody",
        CONNECTED_YOU_BASE_URL="http://api.example.com",
        CONNECTED_YOU_TIMEOUT_SECONDS="-1",
        CONNECTED_YOU_DRY_RUN="maybe",
        DATABASE_URL_FILE=str(tmp_path / "missing"),
        ENCRYPTION_KEY="short",
        SMTP_URL="smtp://mail.example.com",
    )
    assert sorted(line.partition(": ")[0] for line in lines) == [
        "CONNECTED_YOU_BASE_URL",
        "CONNECTED_YOU_DRY_RUN",
        "CONNECTED_YOU_TIMEOUT_SECONDS",
        "DATABASE_URL",
        "ENCRYPTION_KEY",
        "ESIM_PROVIDER",
        "MAIL_FROM",
    ]


def test_a_mistake_in_a_named_file_is_told_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://user:hunter2@host:port/name")
    [line] = mistakes(DATABASE_URL_FILE=str(tmp_path / "url"))
    assert line.startswith("DATABASE_URL: ")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.exists, "No such file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: path.write_bytes(b"\xff\xfehunter2"), "not UTF-8"),
    ],
    ids=["missing", "folder", "unreadable", "not UTF-8"],
)
def test_a_named_file_that_cannot_be_read_stops_the_start(
    make: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    make(path)
    [line] = mistakes(CONNECTED_YOU_API_KEY_FILE=str(path))
    assert line.startswith(f"CONNECTED_YOU_API_KEY: CONNECTED_YOU_API_KEY_FILE names {path}, ")
    assert reason in line
    assert "hunter2" not in line


def test_an_env_file_that_is_not_text_stops_the_start(env_file: Path) -> None:
    env_file.write_bytes(b"CONNECTED_YOU_API_KEY=\xffhunter2\n")
    [line] = mistakes()
    assert line.endswith("cannot be read: it is not UTF-8 text")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.8.9.1", "localhost:1", "LOCALHOST", "[::1]:8080"])
def test_a_loopback_address_may_be_http(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTED_YOU_BASE_URL", f"http://{host}")
    assert load_settings().connected_you_base_url == f"http://{host}"


def test_another_host_may_be_http_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTED_YOU_BASE_URL", "http://sandbox:8080")
    monkeypatch.setenv("CONNECTED_YOU_ALLOW_HTTP", "true")
    assert load_settings().connected_you_base_url == "http://sandbox:8080"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p%40ss%2Fword@db.example.com:5432/tribi?sslmode=require",
        "postgres://db.example.com/tribi",
        "postgresql+psycopg://db.example.com/tribi",
        "postgresql://user:why?@db.example.com/tribi",
        "postgresql:///tribi?host=/run/postgresql",
        "postgresql://one:5432,two:5433/tribi?target_session_attrs=read-write",
        "postgresql://[::1]:5432/tribi",
    ],
)
def test_a_database_url_is_whatever_libpq_takes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == url
    assert not settings.is_embedded


def test_several_encryption_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", f"{A_KEY} , {A_KEY}")
    assert load_settings().encryption_key is not None


def test_a_mail_server_needs_a_sender() -> None:
    [line] = mistakes(SMTP_URL="smtps://mail.example.com")
    assert line.startswith("MAIL_FROM: must be set with SMTP_URL")


# Secrets


def test_the_settings_secrets_are_known_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    other = base64.b64encode(bytes(32)).decode()
    monkeypatch.setenv("CONNECTED_YOU_API_KEY", "the-api-key")
    monkeypatch.setenv("CONNECTED_YOU_PARTNER_ID", "the-partner")
    monkeypatch.setenv("ENCRYPTION_KEY", f"{A_KEY}, {other}")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:data%40base@host/name")
    monkeypatch.setenv("SMTP_URL", "smtp://user:ma%40il@host")
    monkeypatch.setenv("MAIL_FROM", "esims@example.com")
    held = load_settings().secrets()
    assert {"the-api-key", "the-partner", A_KEY, other, "data@base", "ma@il", "ma%40il"} <= set(held)
    assert "" not in held


def test_every_setting_that_is_a_secret_is_known_as_one() -> None:
    values: dict[str, Any] = {
        name: SecretStr(f"postgresql://user:{name}@host/x")
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert "connected_you_api_key" in values
    assert {value.get_secret_value() for value in values.values()} <= set(Settings.model_construct(**values).secrets())


def test_neither_repr_nor_str_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTED_YOU_API_KEY", "the-api-key")
    monkeypatch.setenv("ENCRYPTION_KEY", A_KEY)
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hunter2@host/name")
    settings = load_settings()
    for text in (repr(settings), str(settings)):
        assert not any(secret in text for secret in ("the-api-key", A_KEY, "hunter2"))


# TRIBI_ENV_FILE, which is read when the module is imported


def _in_another_process(env_file: Path) -> "subprocess.CompletedProcess[str]":
    program = """
from app.errors import ConfigurationError
from app.settings import load_settings
try:
    print(load_settings().connected_you_partner_id)
except ConfigurationError as error:
    print("stopped:", error)
"""
    environment = {"PATH": os.environ["PATH"], "TRIBI_ENV_FILE": str(env_file)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, cwd=BACKEND_DIR, capture_output=True, text=True, check=True)


def test_tribi_env_file_names_another_env_file(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("CONNECTED_YOU_PARTNER_ID=from-my-env\n")
    assert _in_another_process(tmp_path / "my.env").stdout == "from-my-env\n"


def test_a_tribi_env_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "missing.env"
    assert _in_another_process(missing).stdout == f"stopped: TRIBI_ENV_FILE: there is no {missing}\n"


@pytest.mark.parametrize("value", ["proxy.internal", "10.0.0.1/33", "*", "10.0.0.5;10.0.0.6", "10.1.2.3/16"])
def test_a_trusted_proxy_that_is_no_address_stops_the_start(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all no star: whoever believes everybody has no limits."""
    monkeypatch.setenv("TRUSTED_PROXIES", value)
    with pytest.raises(ConfigurationError, match=r"^TRUSTED_PROXIES: must be addresses or networks"):
        load_settings()


def test_trusted_proxies_are_read_in_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.5, 10.1.0.0/16,::1")
    assert load_settings().trusted_proxies == "10.0.0.5/32,10.1.0.0/16,::1/128"
