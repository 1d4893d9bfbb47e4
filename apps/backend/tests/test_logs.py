"""Whatever way something takes into the log, it comes out as one line and without secrets."""

import io
import json
import logging
import re
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars

from app import logs, redaction
from app.logs import Handler, _Line, configure_logging, learn_secret

EMAIL = "ana.canary@example.com"
CODE = "LPA:1$SMDP.GSMA.COM$CANARY-12345"
ICCID = "8949449999999990130"
KNOWN = "s3cret-of-ours"
CANARIES = re.compile(r"canary|GSMA|894944|s3cret|Maria", re.IGNORECASE)

Log = Callable[[], list[dict[str, Any]]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """What `configure_logging` changes in this process is put back."""
    root, hook, config = logging.getLogger(), sys.excepthook, structlog.get_config()
    level = root.level
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, Handler)]:
        root.removeHandler(handler)
    root.setLevel(level)
    sys.excepthook = hook
    logging.captureWarnings(capture=False)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.configure(**config)


@pytest.fixture
def log(logging_restored: None) -> Log:
    """What was logged so far, as JSON, every line proven to be free of canaries."""
    stream = io.StringIO()
    configure_logging(stream=stream, level="DEBUG", known_secrets=[KNOWN])

    def read() -> list[dict[str, Any]]:
        assert not CANARIES.search(stream.getvalue())
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return read


@dataclass
class Customer:
    email: str = EMAIL


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError(EMAIL)


def remove_pytests_handlers() -> None:
    """They format every record too, and raise what it raises. Pytest itself minds not that they are gone."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if isinstance(handler, Handler)]


def fail(message: str) -> None:
    raise ValueError(message)


def test_an_event_has_its_level_and_its_time_in_utc(log: Log) -> None:
    structlog.get_logger().warning("esims.refused", order_id=5)
    [line] = log()
    assert {"event": "esims.refused", "level": "warning", "order_id": 5}.items() <= line.items()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line["timestamp"])).total_seconds()) < 60


def test_the_context_is_in_every_line_of_ours_and_of_libraries(log: Log) -> None:
    with bound_contextvars(request_id="r-1"):
        structlog.get_logger().info("ours")
        logging.getLogger("aiohttp.client").info("theirs")
    assert [line["request_id"] for line in log()] == ["r-1", "r-1"]


def test_the_event_text_is_redacted(log: Log) -> None:
    structlog.get_logger().info(f"sent {CODE} to {EMAIL} with {KNOWN}")
    assert log()[0]["event"] == "sent [code] to [email] with [redacted]"


def test_positional_arguments_are_redacted(log: Log) -> None:
    structlog.get_logger().info("sent to %s", EMAIL)
    assert log()[0]["event"] == "sent to [email]"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (EMAIL, "[email]"),
        (f"the ICCID {ICCID}", "the ICCID [iccid]"),
        (int(ICCID), "[iccid]"),
        (EMAIL.encode(), "b'[email]'"),
        (bytearray(EMAIL.encode()), "bytearray(b'[email]')"),
        (Customer(), "Customer(email='[email]')"),
        (ValueError(f"no {EMAIL}"), "ValueError: no [email]"),
        ([EMAIL, {"at": EMAIL}, (CODE,)], ["[email]", {"at": "[email]"}, ["[code]"]]),
        ({"a": {"b": [EMAIL]}, EMAIL: 1}, {"a": {"b": ["[email]"]}, "[email]": 1}),
        (
            {"iccid": 5, "apiKey": "x", "Password": ["y"]},
            {"iccid": "[iccid]", "apiKey": "[redacted]", "Password": "[redacted]"},
        ),
        ({"customer": {"name": "Maria", "n": 1}}, {"customer": {"name": "[redacted]", "n": 1}}),
        ({"email": None, "token": False, "secret": ""}, {"email": None, "token": False, "secret": ""}),
        (json.dumps({"activationCode": CODE}), '{"activationCode": "[code]"}'),
        (Unshowable(), "<Unshowable, which can't be shown (RuntimeError)>"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (datetime(2025, 11, 20, tzinfo=UTC), "2025-11-20 00:00:00+00:00"),
        (float("nan"), "nan"),
        (1.5, 1.5),
        (10**5000, "a number of 16610 bits"),
        ("\ud800", "\ud800"),
        (True, True),
        (None, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_redacted_however_deep_it_stands(log: Log, value: object, shown: object) -> None:
    remove_pytests_handlers()
    structlog.get_logger().info("event", value=value)
    assert log()[0]["value"] == shown


@pytest.mark.parametrize("name", ["email", "api_key", "activation_code", "customer_name"])
def test_a_field_with_a_secret_name_is_redacted_whatever_it_holds(log: Log, name: str) -> None:
    structlog.get_logger().info("event", **{name: "Maria"})
    assert log()[0][name].startswith("[")


def test_containers_without_end_are_shown_to_a_depth(log: Log) -> None:
    endless: list[Any] = [EMAIL]
    endless.append(endless)
    structlog.get_logger().info("event", value=endless)
    assert "[...]" in json.dumps(log()[0])


def test_an_error_is_logged_with_its_causes_and_without_local_variables(log: Log) -> None:
    local = "s3cret-local"
    try:
        try:
            fail(f"refused {EMAIL}")
        except ValueError as error:
            raise RuntimeError(f"while sending {CODE}") from error
    except RuntimeError:
        structlog.get_logger().exception("mail.failed", length=len(local))
    [line] = log()
    assert line["level"] == "error"
    assert "ValueError: refused [email]" in line["exception"]
    assert "direct cause" in line["exception"]
    assert "RuntimeError: while sending [code]" in line["exception"]
    assert "in fail" in line["exception"]


def test_a_group_of_errors_is_logged_whole(log: Log) -> None:
    group = ExceptionGroup("two", [ValueError(EMAIL), OSError(KNOWN)])
    structlog.get_logger().error("event", exc_info=group)
    assert "OSError: [redacted]" in log()[0]["exception"]


def test_an_error_that_cannot_be_shown_costs_no_event(log: Log) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError(EMAIL)

    structlog.get_logger().error("event", exc_info=Odd())
    assert log()[0]["event"] == "event"


def test_a_librarys_message_and_arguments_are_redacted(log: Log) -> None:
    logging.getLogger("procrastinate.worker").info("job for %s: %r", EMAIL, {"code": CODE})
    assert log()[0]["event"] == "job for [email]: {'code': '[code]'}"
    assert log()[0]["logger"] == "procrastinate.worker"


def test_a_librarys_error_is_redacted(log: Log) -> None:
    try:
        fail(EMAIL)
    except ValueError:
        logging.getLogger("sqlalchemy.pool").exception("lost %s", KNOWN, stack_info=True)
    [line] = log()
    assert line["event"] == "lost [redacted]"
    assert "ValueError: [email]" in line["exception"]
    assert "test_logs.py" in line["stack"]


def test_a_message_that_does_not_fit_its_arguments_is_not_shown(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    remove_pytests_handlers()
    logging.getLogger("library").info("%d of %s", EMAIL)
    assert log() == [{"event": "logs.not_written", "logger": "library", "error": "TypeError"}]
    assert capsys.readouterr().err == ""


def test_warnings_are_logged(log: Log) -> None:
    with warnings.catch_warnings():
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)  # within the block, or its end would undo it for later tests
        warnings.simplefilter("always")
        warnings.warn(f"deprecated for {EMAIL}", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    [line] = log()
    assert "DeprecationWarning: deprecated for [email]" in line["event"]
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")


def test_debug_lines_are_redacted_too(log: Log) -> None:
    structlog.get_logger().debug(EMAIL)
    logging.getLogger("asyncio").debug(EMAIL)
    assert [line["event"] for line in log()] == ["[email]", "[email]"]


@pytest.mark.usefixtures("logging_restored")
def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream, level="WARNING")
    structlog.get_logger().info("ours")
    logging.getLogger("library").info("theirs")
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("logging_restored")
def test_there_are_no_other_levels() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging(level="LOUD")


def test_uvicorns_own_access_log_is_silent(log: Log) -> None:
    logging.getLogger("uvicorn.access").info("GET /i/token")
    logging.getLogger("uvicorn.error").info("Started")
    assert [line["event"] for line in log()] == ["Started"]


def test_the_last_configuration_holds_for_loggers_in_use(log: Log) -> None:
    logger = structlog.get_logger()
    logger.info("before")
    stream = io.StringIO()
    configure_logging(stream=stream)
    logger.info("after")
    logging.getLogger("library").info("after")
    assert [line["event"] for line in log()] == ["before"]
    assert stream.getvalue().count("after") == 2


def test_a_handler_that_a_library_set_up_for_itself_is_removed(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("library.with.handler")
    logger.addHandler(logging.StreamHandler())
    configure_logging(stream=io.StringIO())
    logger.error(EMAIL)
    assert log() == []
    assert capsys.readouterr().err == ""


def test_what_json_would_only_show_across_fields_is_redacted_and_still_json(log: Log) -> None:
    structlog.get_logger().info("authorization: digest", value="abc")
    [line] = log()
    assert line["event"] in ("logs.redacted_across_fields", "authorization: [redacted]")
    assert line["level"] == "info"


values = st.recursive(
    st.text() | st.integers() | st.floats() | st.binary() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    event=st.text(),
    fields=st.dictionaries(st.text(min_size=1).filter(lambda name: name != "event"), values, max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@pytest.mark.usefixtures("logging_restored")
def test_every_event_is_one_line_of_json(event: str, fields: dict[str, Any]) -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger().info(
        event.replace("%", ""), **{f"x{name}": value for name, value in fields.items()}, email=EMAIL
    )
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)
    assert EMAIL not in line


class Plan(StrEnum):
    SPAIN = "spain"


class Odd(str, Enum):  # noqa: UP042 - unlike a StrEnum it shows itself otherwise than JSON does
    ONE = "one"


words = st.sampled_from(
    [
        "http.request",
        "/api/esims/{esim_id}",
        EMAIL,
        CODE,
        ICCID,
        KNOWN,
        "spent",
        "customer",
        "name",
        "e-mail",
        "Bearer x",
        "a\nb",
    ]
)
shown = st.one_of(
    words,
    st.text(max_size=20),
    st.integers() | st.sampled_from([int(ICCID), 89_40_00, 10**20, 10**5000, True, None]),
    st.floats() | st.sampled_from([0.89123456789012345, 8.949449999999990e18]),
    st.sampled_from([Plan.SPAIN, Odd.ONE, ValueError("spent"), b"bytes", datetime(2025, 11, 20, tzinfo=UTC)]),
    values,
)


@given(
    st.dictionaries(
        words | st.sampled_from(["event", "status", "exc_info", "iccid"]) | st.text(max_size=6), shown, max_size=5
    )
)
@settings(deadline=None)
def test_a_line_that_is_plain_at_a_glance_is_what_a_closer_look_makes_of_it(event: dict[str, Any]) -> None:
    line = _Line(is_json=True, has_colours=False, known=frozenset([KNOWN, "one.of.ours"]))
    quick = line(None, "info", dict(event))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "is_plain", lambda *_: False)
        patch.setattr(redaction, "is_plain", lambda *_: False)
        redaction.redact_name.cache_clear()
        assert line(None, "info", dict(event)) == quick


def test_what_cannot_be_written_costs_its_writer_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "is_plain", lambda *_: 1 / 0)
    structlog.get_logger().info("event", value=EMAIL)
    assert log() == [{"event": "logs.not_written", "logger": "tribi", "error": "ZeroDivisionError"}]


@pytest.mark.usefixtures("logging_restored")
def test_a_stream_that_is_closed_costs_nothing_either(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    stream.close()
    structlog.get_logger().info("event", value=EMAIL)
    assert capsys.readouterr() == ("", "")


def test_an_event_is_on_its_way_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    [handler] = [handler for handler in logging.root.handlers if isinstance(handler, Handler)]
    flushed: list[str] = []
    monkeypatch.setattr(handler.stream, "flush", lambda: flushed.append(log()[-1]["event"]), raising=False)
    structlog.get_logger().info("ours")
    logging.getLogger("library").info("theirs")
    assert flushed == ["ours", "theirs"]


@given(event=st.text(), value=values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@pytest.mark.usefixtures("logging_restored")
def test_every_event_is_one_line_on_a_terminal(event: str, value: object) -> None:
    stream = Terminal()
    configure_logging(stream=stream)
    structlog.get_logger().info(event, value=value, to=EMAIL)
    [line] = stream.getvalue().splitlines()
    assert EMAIL not in line
    line.encode()


@pytest.fixture
def terminal(logging_restored: None) -> Terminal:
    stream = Terminal()
    configure_logging(stream=stream, known_secrets=[KNOWN])
    return stream


def test_a_terminal_gets_text_in_colour(terminal: Terminal) -> None:
    structlog.get_logger().info("esims.provisioned", order_id=5, plan="CY ES", tags=["ü"])
    assert re.fullmatch(
        r'\S+Z \x1b\[32minfo\x1b\[0m     esims\.provisioned order_id=5 plan="CY ES" tags=\["ü"\]\n', terminal.getvalue()
    )


@pytest.mark.usefixtures("logging_restored")
def test_text_without_a_terminal_has_no_colours() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream, json=False)
    structlog.get_logger().error("event")
    assert "\x1b" not in stream.getvalue()
    assert " error    event\n" in stream.getvalue()


@pytest.mark.usefixtures("logging_restored")
def test_json_may_be_asked_for_on_a_terminal() -> None:
    stream = Terminal()
    configure_logging(stream=stream, json=True)
    structlog.get_logger().info("event")
    assert json.loads(stream.getvalue())["event"] == "event"


@pytest.mark.parametrize(
    "forged", ["a\n2025-11-20T00:00:00Z info b", "a\rb", "a\x1b[2Jb", "a\x9bb", "a\u2028b", "a\u202eb", "a\0b"]
)
def test_on_a_terminal_nothing_from_outside_ends_a_line_or_moves_the_cursor(terminal: Terminal, forged: str) -> None:
    structlog.get_logger().info(forged, value=forged, nested=[forged])
    logging.getLogger("library").info("got %s", forged)
    text = terminal.getvalue().replace("\x1b[32minfo\x1b[0m", "info")
    assert len(text.splitlines()) == 2
    assert forged[1] not in text.replace("\n", "") or forged[1] == "\n"


def test_on_a_terminal_a_traceback_stands_indented_below_its_line(terminal: Terminal) -> None:
    try:
        fail(f"{EMAIL}\n2025-11-20T00:00:00Z info forged \x1b[2J {KNOWN}")
    except ValueError:
        structlog.get_logger().exception("event", email=EMAIL)
    first, *below = terminal.getvalue().splitlines()
    assert first.endswith("event email=[email]")
    assert all(row.startswith("    | ") for row in below)
    assert below[-2:] == ["    | ValueError: [email]", "    | 2025-11-20T00:00:00Z info forged \\x1b[2J [redacted]"]


def in_a_process(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_an_error_that_nobody_catches_is_a_line_too() -> None:
    ended = in_a_process(f"from app.logs import configure_logging; configure_logging(); raise ValueError({EMAIL!r})")
    assert ended.returncode == 1
    [line] = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (line["event"], line["level"]) == ("process.uncaught_exception", "critical")
    assert "ValueError: [email]" in line["exception"]


def test_standard_error_is_where_lines_go_unless_told_otherwise() -> None:
    ended = in_a_process(
        "from app.logs import configure_logging; configure_logging()\n"
        f"import warnings; warnings.warn('for {EMAIL}')\n"
        "import structlog; structlog.get_logger().info('ours')"
    )
    assert ended.stdout == ""
    assert [json.loads(line)["logger" if "py" in line else "event"] for line in ended.stderr.splitlines()] == [
        "py.warnings",
        "ours",
    ]


def test_importing_loads_neither_structlog_nor_asyncio() -> None:
    ended = in_a_process(
        "import sys, app.logs; print([name for name in ('structlog', 'asyncio') if name in sys.modules])"
    )
    assert ended.stdout.strip() == "[]"


def test_lines_of_many_threads_do_not_mix(log: Log) -> None:
    threads = [
        threading.Thread(target=lambda: structlog.get_logger().info("event", value=["x" * 500])) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log()) == 20


def test_a_secret_that_is_learned_is_replaced_from_the_next_line_on_and_so_are_those_of_before(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_learned", [])
    learn_secret("canary-of-today")
    structlog.get_logger().info("said", words=f"canary-of-today, {KNOWN}")
    logging.getLogger("a.library").warning("canary-of-today")
    assert [line.get("words", line["event"]) for line in log()] == ["[redacted], [redacted]", "[redacted]"]


def test_what_was_learned_outlives_another_configuration(
    logging_restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_learned", [])
    learn_secret("canary-of-today")
    stream = io.StringIO()
    configure_logging(stream=stream, known_secrets=[KNOWN])
    structlog.get_logger().info("said", words="canary-of-today")
    assert not CANARIES.search(stream.getvalue())
