"""The environment, read once into one frozen object.

Precedence: environment variable, then `apps/backend/.env`; for each name X where neither sets X, the file that X_FILE names
(container and vault secrets). An empty value counts as unset. What cannot be stops the start with one line per mistake.
"""

import base64
import binascii
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import ConfigurationError

BACKEND_DIR = Path(__file__).resolve().parents[1]
ENV_FILE = Path(os.environ.get("TRIBI_ENV_FILE") or BACKEND_DIR / ".env")
"""TRIBI_ENV_FILE names another one; it is no setting itself, and can't stand in the file."""


def _split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from error
    if parts.scheme not in schemes or not parts.hostname or port == 0 or any(c.isspace() for c in text):
        raise ValueError(f"must be a URL that begins with {wanted} and names a host")
    return parts


def _http_url(text: str) -> str:
    parts = _split_url(text, ("https", "http"))
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be a plain URL: no user, no query, no fragment")
    return text.rstrip("/")


def _database_url(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        raise ValueError("must begin with postgresql:// (Tribi speaks PostgreSQL only)")
    try:
        _ = urlsplit(text).port
    except ValueError as error:
        raise ValueError("is not a URL: its port is not a number") from error
    return secret


def _encryption_keys(secret: SecretStr) -> SecretStr:
    for text in secret.get_secret_value().split(","):
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except binascii.Error as error:
            raise ValueError("each key must be base64; `openssl rand -base64 32` makes one") from error
        if len(key) != 32:
            raise ValueError("each key must be 32 bytes in base64; `openssl rand -base64 32` makes one")
    return secret


def is_loopback(host: str) -> bool:
    """True for `localhost` and loopback addresses (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _upper(value: Any) -> Any:  # noqa: ANN401 - whatever the environment holds
    return value.strip().upper() if isinstance(value, str) else value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
ProviderName = Annotated[Literal["LOCAL", "CONNECTED_YOU"], BeforeValidator(_upper)]


class Settings(BaseSettings):
    """Every setting; documented one by one in `.env.example` and `docs/configuration.md` (a test holds them together)."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    esim_provider: ProviderName = "LOCAL"
    connected_you_base_url: HttpUrl = "https://sandbox.api.connectedyou.com"
    connected_you_api_key: SecretStr | None = None
    connected_you_partner_id: str | None = None
    connected_you_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 15
    connected_you_dry_run: bool = True
    connected_you_allow_http: bool = False

    activation_wait_seconds: Annotated[float, Field(gt=0, le=600)] | None = None
    provider_max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1000

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    tribi_data_dir: Path = BACKEND_DIR / ".data"
    encryption_key: Annotated[SecretStr, AfterValidator(_encryption_keys)] | None = None

    public_url: HttpUrl | None = None
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"

    @model_validator(mode="after")
    def _base_url_is_safe(self) -> "Settings":
        parts = urlsplit(self.connected_you_base_url)
        if parts.scheme == "http" and not self.connected_you_allow_http and not is_loopback(parts.hostname or ""):
            raise ValueError(
                "CONNECTED_YOU_BASE_URL must be https: the API key travels with each order "
                "(for a private host set CONNECTED_YOU_ALLOW_HTTP=true)"
            )
        return self

    @property
    def is_live(self) -> bool:
        """Whether an activation spends money: the provider is a real one and its dry run is off."""
        return self.esim_provider != "LOCAL" and not self.connected_you_dry_run

    @property
    def provider_timeout_s(self) -> float:
        """Total deadline of one call to the provider, connect to last byte, in seconds."""
        return self.connected_you_timeout_seconds

    @property
    def wait_s(self) -> float:
        """How long an activation call waits for its result before it answers 202, in seconds."""
        return self.activation_wait_seconds or self.provider_timeout_s + 5

    @property
    def is_embedded(self) -> bool:
        return self.database_url is None

    def secrets(self) -> tuple[str, ...]:
        """What must never reach a log, whatever it looks like."""
        held = [self.connected_you_api_key, self.encryption_key, self.database_url]
        values = [value.get_secret_value() for value in held if value is not None]
        password = urlsplit(self.database_url.get_secret_value()).password if self.database_url else None
        return tuple(filter(None, [*values, password, self.connected_you_partner_id]))

    @classmethod
    def settings_customise_sources(  # pydantic-settings' own hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ours reads the files that X_FILE names instead
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        named_files = _NamedFiles(settings_cls, [env_settings, dotenv_settings])
        return init_settings, env_settings, dotenv_settings, named_files


class _NamedFiles(PydanticBaseSettingsSource):
    """For each setting X that is not set: the content of the file that X_FILE names, without its line end."""

    def __init__(self, settings_cls: type[BaseSettings], named_by: list[PydanticBaseSettingsSource]) -> None:
        super().__init__(settings_cls)
        self._variables: dict[str, str] = {}
        for source in reversed(named_by):
            variables: Mapping[str, str | None] = getattr(source, "env_vars", {})
            self._variables |= {name.lower(): value for name, value in variables.items() if value}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class's signature
        path = self._variables.get(f"{field_name}_file")
        if path is None or self._variables.get(field_name):
            return None, field_name, False
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise ConfigurationError(f"{field_name.upper()}_FILE: cannot read {path}: {reason}") from error
        return text.rstrip("\r\n"), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value}


def load_settings() -> Settings:
    """
    Reads the environment.

    Raises:
        ConfigurationError: one line per mistake, each naming the variable and what it must be; no value is repeated.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for mistake in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(mistake["loc"][0]).upper() + ": " if mistake["loc"] else ""
            lines.append(name + mistake["msg"].removeprefix("Value error, "))
        raise ConfigurationError("\n".join(lines)) from None
