"""
Logs: one line an event, without secrets and personal data, whoever wrote it.

Our own events (structlog) and the libraries' (logging, warnings) become lines in the same way: values are redacted one by one,
the line is rendered, and the whole line is redacted once more. Where a glance at the line shows that there is nothing to redact,
that is left out: each request is a line.
"""

import contextlib
import logging
import math
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from json import JSONDecodeError, JSONEncoder, dumps, loads
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO

from app.redaction import SECRET, is_plain, placeholder_for, redact, redact_name

if TYPE_CHECKING:
    from structlog.types import EventDict, Processor, WrappedLogger

_MAX_DEPTH: Final = 8  # of containers within containers; deeper ones are shown as their repr
_LONGEST_NAME: Final = 64  # of a field; what is longer is not remembered
_SHOWN_BY_STR: Final = frozenset(
    ("datetime", "decimal", "ipaddress", "pathlib", "uuid", "yarl")
)  # modules of their types

# What would end a line, move the cursor, colour the screen or turn the reading direction, and what has no bytes.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BARE = re.compile(r"[^\s\"'=]+")

_ATOMS: Final = frozenset(
    (str, int, float, bool, type(None))
)  # exactly these: a type derived from one may show itself differently
_as_json: Final = JSONEncoder(allow_nan=False).encode

_learned: list[str] = []
"""Secrets that came into use after the logging was configured."""

_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}  # ANSI SGR


def configure_logging(
    *, json: bool | None = None, level: str = "INFO", stream: TextIO | None = None, known_secrets: Iterable[str] = ()
) -> None:
    """
    Send everything that is logged in this process to one stream. May be called again, the last call holds.

    Args:
        json: a JSON object a line, or text for a person. None: JSON unless the stream is a terminal.
        level: DEBUG, INFO, WARNING, ERROR or CRITICAL; the libraries' too.
        stream: None is stderr.
        known_secrets: strings such as API keys that are replaced wherever they stand.

    Raises:
        ValueError: no such level.
    """
    import structlog  # which takes a tenth of a second, for asyncio and rich; `tribi --help` logs nothing
    from structlog.stdlib import ProcessorFormatter

    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"There is no log level {level!r}.")
    stream = stream or sys.stderr
    is_json = json if json is not None else not stream.isatty()
    known = frozenset((*known_secrets, *_learned))
    on_the_way: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),  # RFC 3339
        structlog.processors.StackInfoRenderer(),
    ]
    line = _Line(is_json=is_json, has_colours=not is_json and stream.isatty(), known=known)
    handler = Handler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *on_the_way],
            processors=[ProcessorFormatter.remove_processors_meta, line],
        )
    )
    _take_over(handler, level)
    own = _OwnEvents(handler, line)
    structlog.configure(
        processors=[*on_the_way, structlog.stdlib.PositionalArgumentsFormatter()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=lambda *_: own,
        cache_logger_on_first_use=False,  # the next call must reach loggers that were used already
    )
    sys.excepthook = _log_uncaught


def learn_secret(secret: str) -> None:
    """One more string that this process replaces in every line, from the next one on, whatever is configured later."""
    if secret not in _learned:
        _learned.append(secret)
    for handler in logging.root.handlers:
        formatter = handler.formatter if isinstance(handler, Handler) else None
        for processor in getattr(formatter, "processors", ()):
            if isinstance(processor, _Line):
                processor.known |= {secret}


class _Line:
    """The last processor: an event becomes a line."""

    def __init__(self, *, is_json: bool, has_colours: bool, known: frozenset[str]) -> None:
        self.is_json = is_json
        self.has_colours = has_colours
        self.known = known

    def __call__(self, logger: "WrappedLogger", method: str, event: "EventDict") -> str:  # noqa: ARG002 - structlog's
        if self.is_json and (line := self._plain_json(event)) is not None:
            return line
        exc_info = event.pop("exc_info", None)
        if exception := _traceback_text(exc_info):
            event["exception"] = exception
        fields = self._cleaned(event, 0)
        return self._json(fields) if self.is_json else self._text(fields)

    def _plain_json(self, event: Mapping[str, Any]) -> str | None:
        """
        What `_json` would make of it; None for an event that needs a closer look. What isn't plain in a name or a value isn't
        plain in the line either: JSON writes it as it is, or with a backslash.
        """
        if "exc_info" in event:
            return None
        for value in event.values():
            if type(value) not in _ATOMS:
                return None
        try:
            line = _as_json(event)
        except ValueError:  # NaN, or a number of some thousand digits
            return None
        return line if is_plain(line, self.known) else None

    def _json(self, fields: dict[str, Any]) -> str:
        line = dumps(fields)
        redacted = redact(line, self.known)
        if redacted != line:  # two fields together look like a secret
            try:
                loads(redacted)
            except JSONDecodeError:
                kept = {name: fields.get(name) for name in ("timestamp", "level", "request_id") if name in fields}
                redacted = dumps({"event": "logs.redacted_across_fields", **kept, "line": redacted})
        return redacted

    def _text(self, fields: dict[str, Any]) -> str:
        level = str(fields.pop("level", ""))
        head = [str(fields.pop("timestamp", "")), f"{level:8}", str(fields.pop("event", ""))]
        below = [str(fields.pop(name)) for name in ("stack", "exception") if name in fields]
        pairs = [f"{name}={_shown(value)}" for name, value in fields.items()]
        line = _printable(redact(" ".join((*head, *pairs)), self.known))
        if self.has_colours and level in _COLOURS:
            line = line.replace(f" {level} ", f" \x1b[{_COLOURS[level]}m{level}\x1b[0m ", 1)
        # Indented, so that a message with line breaks can't pass for a line of the log.
        rows = [f"    | {_printable(row)}" for text in below for row in redact(text, self.known).split("\n")]
        return "\n".join((line, *rows))

    def _cleaned(self, values: Mapping[Any, Any], depth: int, *, is_person: bool = False) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, value in values.items():
            name = self._name(key if isinstance(key, str) else _safe_repr(key))
            placeholder = SECRET if is_person and name == "name" else placeholder_for(name)
            if placeholder and not (value is None or value == "" or isinstance(value, bool)):
                cleaned[name] = placeholder
            elif isinstance(value, Mapping) and depth < _MAX_DEPTH:
                cleaned[name] = self._cleaned(value, depth + 1, is_person=name.lower() == "customer")
            else:
                cleaned[name] = self._clean(value, depth)
        return cleaned

    def _name(self, key: str) -> str:
        return redact_name(key, self.known) if len(key) <= _LONGEST_NAME else redact(key, self.known)

    def _clean(self, value: object, depth: int) -> Any:  # noqa: ANN401 - whatever JSON can hold
        """The value as JSON can hold it, without secrets."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return redact(str(value), self.known)
        if isinstance(value, int):
            if value.bit_length() > 1024:  # Python writes no number of some thousand digits
                return f"a number of {value.bit_length()} bits"
            text = redact(str(int(value)), self.known)
            return int(value) if text == str(int(value)) else text
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            return self._cleaned(value, depth + 1)
        if isinstance(value, list | tuple | set | frozenset) and depth < _MAX_DEPTH:
            return [self._clean(item, depth + 1) for item in value]
        return redact(_safe_repr(value), self.known)


class Handler(logging.StreamHandler[TextIO]):
    """Writes the lines. Python's own way with a message that can't be formatted prints its arguments as they are."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        self.tell_of_failure(record.name)

    def write(self, line: str) -> None:
        self.acquire()
        try:
            self.stream.write(line + self.terminator)
            self.stream.flush()
        finally:
            self.release()

    def tell_of_failure(self, logger: str) -> None:
        error = sys.exc_info()[1]
        line = dumps({"event": "logs.not_written", "logger": logger, "error": type(error).__name__})
        with contextlib.suppress(OSError, ValueError):  # the stream is closed, and there is no other
            self.stream.write(f"{line}\n")


class _OwnEvents:
    """Where structlog sends our own events: straight to the handler. A `logging.LogRecord` of each costs more than its line."""

    def __init__(self, handler: Handler, line: _Line) -> None:
        self._handler = handler
        self._line = line

    def write(self, /, **event: Any) -> None:  # noqa: ANN401 - whatever is logged
        try:
            self._handler.write(self._line(self, "", event))
        except Exception:  # noqa: BLE001 - as with logging, an event that can't be written costs its writer nothing
            self._handler.tell_of_failure("tribi")

    debug = info = warning = error = critical = write


def _take_over(handler: logging.Handler, level: str) -> None:
    """Let everything reach the one handler, and nothing another stream; handlers of other kinds (pytest's) stay."""
    names = [name for name, known in logging.root.manager.loggerDict.items() if isinstance(known, logging.Logger)]
    for logger in (logging.root, *map(logging.getLogger, names)):
        for other in logger.handlers[:]:
            if type(other) is logging.StreamHandler or isinstance(other, Handler):
                logger.removeHandler(other)
        if logger.name in ("uvicorn", "uvicorn.error"):
            logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # requests are logged by us, by route and without query
    logging.root.addHandler(handler)
    logging.root.setLevel(level)
    logging.captureWarnings(capture=True)


def _log_uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Python's own hook would print the message as it is."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, where)
    else:
        logging.getLogger("tribi").critical("process.uncaught_exception", exc_info=(kind, error, where))


def _traceback_text(exc_info: object) -> str:
    """As Python prints it: with causes and groups, without local variables."""
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if not isinstance(error, BaseException):
        return ""
    try:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    except Exception as broken:  # noqa: BLE001 - an error whose message can't be had must not cost us the event
        return f"{type(error).__name__}, which can't be shown ({type(broken).__name__})"


def _safe_repr(value: object) -> str:
    try:
        if isinstance(value, BaseException):
            return f"{type(value).__name__}: {value}"
        return str(value) if type(value).__module__ in _SHOWN_BY_STR else repr(value)
    except Exception as broken:  # noqa: BLE001 - a repr is anybody's code
        return f"<{type(value).__name__}, which can't be shown ({type(broken).__name__})>"


def _shown(value: object) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    return dumps(value, ensure_ascii=False)


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)
