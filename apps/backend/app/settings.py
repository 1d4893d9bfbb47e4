"""The environment, read once into one frozen object.

Precedence: environment variable, then `apps/backend/.env`; for each name X where neither sets X, the file that X_FILE names
(container and vault secrets). White space around a value is dropped, and a value of which nothing is left counts as unset.
What cannot be stops the start with one line per mistake.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.errors import ConfigurationError
from app.setting_values import (
    Contact,
    DatabaseUrl,
    EncryptionKeys,
    HeaderName,
    HeaderSecret,
    HttpUrl,
    LogLevel,
    Networks,
    ProviderName,
    SmtpUrl,
    TextLanguage,
    UnknownOutcome,
    is_loopback,
    libpq_parts,
)
from app.values.email_address import read_email
from app.values.person_name import read_person_name

BACKEND_DIR = Path(__file__).resolve().parents[1]
ENV_FILE = Path(os.environ.get("TRIBI_ENV_FILE") or BACKEND_DIR / ".env")
"""TRIBI_ENV_FILE names another one; it is no setting itself, and can't stand in the file."""

DEFAULT_URL = "http://127.0.0.1:8000"
"""What links start with where neither PUBLIC_URL nor a listening server says otherwise."""


class Settings(BaseSettings):
    """Every setting; documented one by one in `.env.example` and `docs/configuration.md` (a test holds them together)."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    esim_provider: ProviderName = "LOCAL"
    connected_you_allow_http: bool = False
    connected_you_base_url: HttpUrl = "https://sandbox.api.connectedyou.com"
    connected_you_api_key: HeaderSecret | None = None
    connected_you_partner_id: str | None = None
    connected_you_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 15
    connected_you_dry_run: bool = True
    connected_you_unknown_outcome: UnknownOutcome = "hold"
    connected_you_replay_hours: Annotated[float, Field(gt=0, le=24 * 365)] = 24
    connected_you_webhook_header: HeaderName = "x-webhook-secret"
    connected_you_webhook_secret: HeaderSecret | None = None

    activation_wait_seconds: Annotated[float, Field(gt=0, le=600)] | None = None
    provider_max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1000
    provider_circuit_failures: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    live_esims_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    live_esims_per_day: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    key_rate_limit: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    database_url: DatabaseUrl | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    tribi_data_dir: Path = BACKEND_DIR / ".data"
    tribi_journal_dir: Path | None = None
    order_id_start: Annotated[int, Field(ge=1, le=10**15)] = 1
    encryption_key: EncryptionKeys | None = None

    install_link_days: Annotated[int, Field(ge=1, le=3650)] = 180
    shutdown_delay_seconds: Annotated[float, Field(ge=0, le=300)] = 0
    public_url: HttpUrl | None = None
    trusted_proxies: Networks | None = None
    smtp_url: SmtpUrl | None = None
    mail_from: Annotated[Annotated[str, AfterValidator(read_email)] | None, Field(validate_default=True)] = None
    mail_from_name: Annotated[str, AfterValidator(read_person_name)] | None = None
    support_contact: Contact | None = None
    default_language: TextLanguage = "en"
    webhooks_allow_private: bool = False
    log_level: LogLevel = "INFO"

    _files: dict[str, Path] = PrivateAttr(default_factory=dict)

    # One setting in the light of those above it. Not for the whole object: pydantic would keep that until all else is right.

    @field_validator("*", mode="before")
    @classmethod
    def _file_was_read(cls, value: Any) -> Any:  # noqa: ANN401 - whatever a source holds
        if isinstance(value, _UnreadableFile):
            raise ValueError(value.reason)  # noqa: TRY004 - pydantic's way to refuse a value
        return value

    @field_validator("connected_you_base_url")
    @classmethod
    def _base_url_is_safe(cls, url: str, info: ValidationInfo) -> str:
        parts = urlsplit(url)
        is_allowed = info.data.get("connected_you_allow_http", True)  # not among them: it is a mistake of its own
        if not is_allowed and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                "must be https: the API key travels with each order (for a private host set CONNECTED_YOU_ALLOW_HTTP=true)"
            )
        return url

    @field_validator("mail_from")
    @classmethod
    def _mail_has_a_sender(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address is None and info.data.get("smtp_url") is not None:
            raise ValueError("must be set with SMTP_URL: the address that messages come from")
        return address

    def file_of(self, name: str) -> Path | None:
        """The file that a setting was read from, by way of X_FILE; None where it came from elsewhere."""
        return self._files.get(name)

    def read_again(self, name: str) -> str:
        """
        What stands now in the file of a secret.

        Raises:
            ValueError: there is no such file, or nothing in it that could be the secret; it says why, and not what.
        """
        text = _content_of(self._files[name])
        if not text:
            raise ValueError("it is empty")
        kind: Any = type(self).model_fields[name].annotation
        try:
            secret: SecretStr = TypeAdapter(kind).validate_python(text)
        except ValidationError as error:
            [mistake, *_] = error.errors(include_url=False, include_input=False, include_context=False)
            raise ValueError(mistake["msg"].removeprefix("Value error, ")) from None
        return secret.get_secret_value()

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
    def journal_dir(self) -> Path:
        """Where the intent journals of this machine lie."""
        return self.tribi_journal_dir or self.tribi_data_dir / "journal"

    @property
    def is_embedded(self) -> bool:
        return self.database_url is None

    def secrets(self) -> tuple[str, ...]:
        """What must never reach a log, whatever it looks like."""
        held = [
            self.connected_you_api_key,
            self.connected_you_webhook_secret,
            self.encryption_key,
            self.database_url,
            self.smtp_url,
        ]
        values = [value.get_secret_value() for value in held if value is not None]
        if self.database_url is not None:
            values.append(str(libpq_parts(self.database_url).get("password") or ""))
        if self.smtp_url is not None and (password := urlsplit(self.smtp_url.get_secret_value()).password):
            values += [password, unquote(password)]
        if self.encryption_key is not None:
            values += [key.strip() for key in self.encryption_key.get_secret_value().split(",")]
        found = [*values, self.connected_you_partner_id]
        return tuple(dict.fromkeys(filter(None, found)))

    @classmethod
    def settings_customise_sources(  # pydantic-settings' own hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ours reads the files that X_FILE names instead
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        variables: dict[str, str] = {}
        for source in (dotenv_settings, env_settings):
            if isinstance(source, EnvSettingsSource):
                source.env_vars = _given(source)
                variables |= _given(source)
        return init_settings, env_settings, dotenv_settings, _NamedFiles(settings_cls, variables)


def public_url(settings: Settings) -> str:
    """What links start with: PUBLIC_URL, else where this server listens (`app.server` notes it), else the default address."""
    return settings.public_url or os.environ.get("TRIBI_LISTENING_URL") or DEFAULT_URL


def _given(source: EnvSettingsSource) -> dict[str, str]:
    return {name: value.strip() for name, value in source.env_vars.items() if value and value.strip()}


def _content_of(path: Path) -> str:
    """Without white space around it. ValueError says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(error.strerror) from error
    except ValueError as error:
        raise ValueError("it is not UTF-8 text") from error


@dataclass(frozen=True)
class _UnreadableFile:
    """In place of a setting's value: why the file that X_FILE names gives none."""

    reason: str


class _NamedFiles(PydanticBaseSettingsSource):
    """For each setting X that is not set: the content of the file that X_FILE names."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class's signature
        path = self.files().get(field_name)
        if path is None:
            return None, field_name, False
        try:
            return _content_of(path), field_name, False
        except ValueError as error:
            unreadable = _UnreadableFile(f"{field_name.upper()}_FILE names {path}, which cannot be read: {error}")
            return unreadable, field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value}

    def files(self) -> dict[str, Path]:
        """By the setting that each gives its value to."""
        return {
            name: Path(self._variables[f"{name}_file"])
            for name in self.settings_cls.model_fields
            if f"{name}_file" in self._variables and name not in self._variables
        }


def _variables() -> dict[str, str]:
    return _given(DotEnvSettingsSource(Settings)) | _given(EnvSettingsSource(Settings))


def named_in_env_file() -> frozenset[str]:
    """The settings that stand in `.env` itself."""
    return frozenset(_given(DotEnvSettingsSource(Settings)))


def load_settings() -> Settings:
    """
    Reads the environment.

    Raises:
        ConfigurationError: one line per mistake, each naming the variable and what it must be; no value is repeated.
    """
    if os.environ.get("TRIBI_ENV_FILE") and not ENV_FILE.exists():
        raise ConfigurationError(f"TRIBI_ENV_FILE: there is no {ENV_FILE}")
    try:
        settings = Settings()
        settings._files.update(_NamedFiles(Settings, _variables()).files())  # noqa: SLF001 - which pydantic keeps from its sources
        return settings  # noqa: TRY300 - the errors below are of both lines
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [
            f"{str(mistake['loc'][0]).upper()}: {mistake['msg'].removeprefix('Value error, ')}" for mistake in mistakes
        ]
        raise ConfigurationError("\n".join(lines)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{ENV_FILE} cannot be read: {reason}") from error
