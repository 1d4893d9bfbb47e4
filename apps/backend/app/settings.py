"""The environment, read once into one frozen object.

Precedence: environment variable, then `apps/backend/.env`; for each name X where neither sets X, the file that X_FILE names
(container and vault secrets). White space around a value is dropped, and a value of which nothing is left counts as unset.
What cannot be stops the start with one line per mistake.
"""

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
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
from app.values.email_address import read_email
from app.values.person_name import read_person_name

BACKEND_DIR = Path(__file__).resolve().parents[1]
ENV_FILE = Path(os.environ.get("TRIBI_ENV_FILE") or BACKEND_DIR / ".env")
"""TRIBI_ENV_FILE names another one; it is no setting itself, and can't stand in the file."""

_LAST_PORT = 65535
_NO_DATABASE_URL = (
    "must be a URL that libpq takes: postgresql://user:password@host:5432/name "
    "(what can't stand in a password as it is, is written %40, %2F, …)"
)


def _split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # not in urlsplit's words: they repeat what it takes for the port, which may be half a password
        raise ValueError(
            f"must be a URL that begins with {wanted}; what can't stand in one is written %40, %2F, …"
        ) from None
    if parts.scheme not in schemes or not parts.hostname or port == 0 or any(c.isspace() for c in text):
        raise ValueError(f"must be a URL that begins with {wanted} and names a host")
    return parts


def _http_url(text: str) -> str:
    _split_url(text, ("https", "http"))
    if any(character in text for character in "@?#"):
        raise ValueError("must be a plain URL: no user, no query, no fragment")
    return text.rstrip("/")


def _database_url(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        raise ValueError("must begin with postgresql:// (Tribi speaks PostgreSQL only)")
    parts = _libpq_parts(secret)
    ports = [port for port in str(parts.get("port") or "").split(",") if port]
    if "@" in str(parts.get("host")) or not all(port.isdecimal() and 0 < int(port) <= _LAST_PORT for port in ports):
        raise ValueError(_NO_DATABASE_URL)
    return secret


def _libpq_parts(database_url: SecretStr) -> dict[str, Any]:
    """What libpq reads out of the URL; ValueError where it reads nothing."""
    from psycopg import ProgrammingError  # wanted only where there is such a URL
    from psycopg.conninfo import conninfo_to_dict

    try:
        return dict(conninfo_to_dict("postgresql://" + database_url.get_secret_value().partition("://")[2]))
    except ProgrammingError:
        raise ValueError(_NO_DATABASE_URL) from None  # libpq's words repeat parts of it


def _encryption_keys(secret: SecretStr) -> SecretStr:
    for text in secret.get_secret_value().split(","):
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except ValueError as error:
            raise ValueError("each key must be base64; `openssl rand -base64 32` makes one") from error
        if len(key) != 32:
            raise ValueError("each key must be 32 bytes in base64; `openssl rand -base64 32` makes one")
    return secret


def _smtp_url(secret: SecretStr) -> SecretStr:
    _split_url(secret.get_secret_value(), ("smtp", "smtps"))
    return secret


def _contact(text: str) -> str:
    try:
        return _http_url(text) if "://" in text else read_email(text)
    except ValueError as error:
        raise ValueError("must be an e-mail address, or the URL of a page (https://…)") from error


def _networks(text: str) -> str:
    """Addresses and networks, separated by commas; given back in one form."""
    try:
        return ",".join(str(ipaddress.ip_network(part.strip())) for part in text.split(","))
    except ValueError:
        raise ValueError(
            "must be addresses or networks, separated by commas: 10.0.0.5, 10.1.0.0/16, ::1 (no names)"
        ) from None


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


def _lower(value: Any) -> Any:  # noqa: ANN401 - whatever the environment holds
    return value.strip().lower() if isinstance(value, str) else value


def _header_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be one line of printable ASCII: it travels in an HTTP header")
    return secret


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):  # a token of RFC 9110 section 5.6.2
        raise ValueError("must be the name of an HTTP header, such as x-webhook-secret")
    return text.lower()


HttpUrl = Annotated[str, AfterValidator(_http_url)]
ProviderName = Annotated[Literal["LOCAL", "CONNECTED_YOU"], BeforeValidator(_upper)]


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
    connected_you_api_key: Annotated[SecretStr, AfterValidator(_header_value)] | None = None
    connected_you_partner_id: str | None = None
    connected_you_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 15
    connected_you_dry_run: bool = True
    connected_you_unknown_outcome: Annotated[Literal["hold", "replay"], BeforeValidator(_lower)] = "hold"
    connected_you_replay_hours: Annotated[float, Field(gt=0, le=24 * 365)] = 24
    connected_you_webhook_header: Annotated[str, AfterValidator(_header_name)] = "x-webhook-secret"
    connected_you_webhook_secret: Annotated[SecretStr, AfterValidator(_header_value)] | None = None

    activation_wait_seconds: Annotated[float, Field(gt=0, le=600)] | None = None
    provider_max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1000
    provider_circuit_failures: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    live_esims_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    live_esims_per_day: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    key_rate_limit: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    tribi_data_dir: Path = BACKEND_DIR / ".data"
    tribi_journal_dir: Path | None = None
    order_id_start: Annotated[int, Field(ge=1, le=10**15)] = 1
    encryption_key: Annotated[SecretStr, AfterValidator(_encryption_keys)] | None = None

    install_link_days: Annotated[int, Field(ge=1, le=3650)] = 180
    shutdown_delay_seconds: Annotated[float, Field(ge=0, le=300)] = 0
    public_url: HttpUrl | None = None
    trusted_proxies: Annotated[str, AfterValidator(_networks)] | None = None
    smtp_url: Annotated[SecretStr, AfterValidator(_smtp_url)] | None = None
    mail_from: Annotated[Annotated[str, AfterValidator(read_email)] | None, Field(validate_default=True)] = None
    mail_from_name: Annotated[str, AfterValidator(read_person_name)] | None = None
    support_contact: Annotated[str, AfterValidator(_contact)] | None = None
    default_language: Annotated[Literal["en", "es", "pt", "fr", "de"], BeforeValidator(_lower)] = "en"
    webhooks_allow_private: bool = False
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"

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
            values.append(str(_libpq_parts(self.database_url).get("password") or ""))
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
