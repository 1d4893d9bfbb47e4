"""connected_you: who is the provider, and what its events say. No event of it, and no garbage, makes the reader fail."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.services.esim_providers import (
    PlanTold,
    ProfileTold,
    ProviderEvent,
    Refusal,
    UsageTold,
    event_source,
    provider_names,
)
from app.services.esim_providers.connected_you.events import ConnectedYouEvents
from app.services.esim_providers.contract import Answer
from app.services.esim_providers.reading import read_json, read_number
from app.services.esim_providers.registry import _BUILDERS
from app.settings import Settings
from app.values.iccid import Iccid

SOURCE = ConnectedYouEvents("x-webhook-secret", "s3cret")
BASE = {"iccid": Iccid.make("89999" + "0" * 13).text, "event_timestamp": "2026-11-20T10:00:00Z"}
AT = datetime(2026, 11, 20, 10, tzinfo=UTC)


def read(**members: Any) -> Any:
    return SOURCE.read(json.dumps(BASE | members).encode())


def test_connected_you_each_provider_has_an_event_source_exactly_where_its_sheet_says_so() -> None:
    for name in provider_names():
        capabilities, _ = _BUILDERS[name]
        source = event_source(Settings(), name)
        assert (source is not None) == capabilities.has_events
        assert source is None or source.name == name
    assert event_source(Settings(), "AIRALO") is None


@pytest.mark.parametrize("status", ["DOWNLOADED", "INSTALLED", "ENABLED", "DISABLED", "DELETED"])
def test_connected_you_profile_lifecycle(status: str) -> None:
    event = read(event_type="PROFILE_LIFECYCLE", eid="89049032000000000000000000000001", status=status)
    assert (event.news, event.at, event.warnings) == (ProfileTold(status.lower()), AT, ())
    assert (event.kind, event.iccid.digits) == ("PROFILE_LIFECYCLE", BASE["iccid"])


@pytest.mark.parametrize(("status", "state"), [("ACTIVATED", "active"), ("TERMINATED", "terminated")])
def test_connected_you_product_status_change(status: str, state: str) -> None:
    event = read(event_type="PRODUCT_STATUS_CHANGE", product_status=status, product_name="Spain", product_id="636")
    assert (event.news, event.warnings) == (PlanTold(state), ())


@pytest.mark.parametrize(
    ("used", "total", "percentage"),
    [
        (2625.02, 5120, 51.3),  # they have measured; we would say 51.27
        (0, 0.001, 0),
        (0.5, 1, 0.5),
        (1e9, 1e9, 1000),
    ],
)
def test_connected_you_usage_alert_is_kept_as_it_was_measured(used: float, total: float, percentage: float) -> None:
    event = read(event_type="USAGE_ALERT", data_consumed=used, data_total=total, percentage_consumed=percentage)
    assert (event.news, event.warnings) == (UsageTold(used, total, percentage), ())


@pytest.mark.parametrize("percentage", [None, "33.4", True, -0.01, 1000.01])
def test_connected_you_a_percentage_that_cannot_be_is_ours_to_two_places(percentage: object) -> None:
    event = read(event_type="USAGE_ALERT", data_consumed=1, data_total=3, percentage_consumed=percentage)
    assert (event.news, event.warnings) == (UsageTold(1, 3, 33.33), ("percentage-unreadable",))


@pytest.mark.parametrize(
    ("used", "total"),
    [(-0.001, 5), (1000000000.1, 5), (1, 0.0009), (1, 1000000000.1), (None, 5), (5, None), ("5", 5), (5, True)],
)
def test_connected_you_a_usage_that_cannot_be_is_no_news(used: object, total: object) -> None:
    event = read(event_type="USAGE_ALERT", data_consumed=used, data_total=total, percentage_consumed=50)
    assert (event.news, event.warnings) == (None, ("usage-unreadable",))


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b"0", 0.0),
        (b"51.27", 51.27),
        (b"-1e308", -1e308),
        (b"1e999", None),
        (b"-1e999", None),
        (b"NaN", None),
        (b"Infinity", None),
        (b'"51.27"', None),
        (b"true", None),
        (b"null", None),
    ],
)
def test_connected_you_a_number_is_one_that_a_machine_can_hold(body: bytes, number: float | None) -> None:
    assert read_number(read_json(Answer(None, body))) == number


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        (b"", "not-json"),
        (b'{"event_type": "USAGE_ALERT"', "not-json"),
        (b"[" * 100_000, "not-json"),
        (b"[]", "not-an-object"),
        (b"null", "not-an-object"),
        (b'"USAGE_ALERT"', "not-an-object"),
    ],
)
def test_connected_you_what_is_no_event_is_told_apart_by_its_bytes(body: bytes, warning: str) -> None:
    event = SOURCE.read(body)
    assert event == ProviderEvent(event.key, warnings=(warning,))
    assert event.key not in {SOURCE.read(body + b" ").key, SOURCE.read(b"{}").key}


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's clock shows another time than UTC."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T10:00:00",
        "2026-11-20 10:00:00",
        "2026-11-20T10:00:00.000Z",
        "2026-11-20T12:00:00+02:00",
        " 2026-11-20T10:00:00+00:00 ",
    ],
)
def test_connected_you_times_are_utc_with_or_without_saying_so(text: str) -> None:
    told = {"event_type": "PROFILE_LIFECYCLE", "status": "ENABLED"}
    event = read(**told, event_timestamp=text)
    assert (event.at, event.warnings) == (AT, ())
    assert event.at.isoformat() == AT.isoformat()
    assert event.key == read(**told).key


@pytest.mark.parametrize(
    ("value", "warning"),
    [
        (None, "time-missing"),
        ("", "time-unreadable"),
        ("soon", "time-unreadable"),
        ("2026-11-20T25:00:00Z", "time-unreadable"),
        ("0001-01-01T00:00:00+02:00", "time-unreadable"),
        (20261120, "time-unreadable"),  # as text it would be a day
        ([2026, 11, 20], "time-unreadable"),
    ],
)
def test_connected_you_what_is_no_time_is_not_made_one(value: object, warning: str) -> None:
    event = read(event_type="PROFILE_LIFECYCLE", status="ENABLED", event_timestamp=value)
    assert (event.at, event.warnings) == (None, (warning,))


@pytest.mark.parametrize(
    ("status", "warning"),
    [
        (None, "status-missing"),
        (5, "status-unreadable"),
        ("EN ABLED", "status-unreadable"),
        ("RELEASED", "status-unknown"),
    ],
)
def test_connected_you_what_is_no_status_is_no_news(status: object, warning: str) -> None:
    event = read(event_type="PROFILE_LIFECYCLE", status=status)
    assert (event.news, event.warnings) == (None, (warning,))


def test_connected_you_two_deliveries_of_one_event_have_one_key() -> None:
    key = read(event_type="PROFILE_LIFECYCLE", status="ENABLED").key
    assert read(status="ENABLED", event_type="PROFILE_LIFECYCLE", eid="x", unknown=[1, {"a": None}]).key == key
    assert read(event_type="PROFILE_LIFECYCLE", status="DISABLED").key != key


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ([(b"x-webhook-secret", b"s3cret")], None),
        ([(b"host", b"x"), (b"X-Webhook-Secret", b"s3cret")], None),
        ([], Refusal.MISSING),
        ([(b"x-webhook-secret-2", b"s3cret"), (b"authorization", b"s3cret")], Refusal.MISSING),
        ([(b"x-webhook-secret", b"")], Refusal.WRONG),
        ([(b"x-webhook-secret", b"s3cre")], Refusal.WRONG),
        ([(b"x-webhook-secret", b"s3crets")], Refusal.WRONG),
        ([(b"x-webhook-secret", b"S3CRET")], Refusal.WRONG),
        ([(b"x-webhook-secret", b"s3cret\xff")], Refusal.WRONG),
        ([(b"x-webhook-secret", b"s3cret"), (b"x-webhook-secret", b"s3cret")], Refusal.TWICE),
        ([(b"X-Webhook-Secret", b"s3cret"), (b"x-webhook-secret", b"another")], Refusal.TWICE),
    ],
)
def test_connected_you_is_known_by_one_header(headers: list[tuple[bytes, bytes]], refusal: Refusal | None) -> None:
    assert SOURCE.refusal(headers) is refusal


@pytest.mark.parametrize("secret", [None, ""])
def test_connected_you_is_nobody_while_no_secret_is_set(secret: str | None) -> None:
    closed = ConnectedYouEvents("x-webhook-secret", secret)
    for value in (b"", b"None", b"s3cret"):
        assert closed.refusal([(b"x-webhook-secret", value)]) is Refusal.CLOSED
    assert closed.refusal([]) is Refusal.CLOSED


def test_connected_you_a_secret_is_in_no_repr() -> None:
    assert "s3cret" not in repr(SOURCE)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_MEMBERS = {
    "event_type": st.sampled_from(["USAGE_ALERT", "PROFILE_LIFECYCLE", "PRODUCT_STATUS_CHANGE", " usage_alert "])
    | _JSON,
    "iccid": st.just(BASE["iccid"]) | st.from_regex(r"\A[0-9]{17,23}F?\Z") | _JSON,
    "event_timestamp": st.datetimes().map(str) | st.datetimes(timezones=st.timezones()).map(str) | _JSON,
    "status": st.sampled_from(["ENABLED", "enabled", "X"]) | _JSON,
    "product_status": st.sampled_from(["ACTIVATED", "TERMINATED"]) | _JSON,
    "data_consumed": st.floats() | st.integers() | _JSON,
    "data_total": st.floats() | st.integers() | _JSON,
    "percentage_consumed": st.floats() | _JSON,
}


@hypothesis_settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # it looks at the clock: a machine that stood still is no finding
)
@example(b'{"event_type": "USAGE_ALERT", "data_consumed": 1e9, "data_total": 5e-324}')
@given(st.binary() | st.fixed_dictionaries({}, optional=_MEMBERS).map(lambda event: json.dumps(event).encode()))
def test_connected_you_nothing_that_is_sent_makes_the_reader_fail(body: bytes) -> None:
    event = SOURCE.read(body)
    assert event == SOURCE.read(body)
    event.key.encode()
    assert event.at is None or event.at.utcoffset() is not None
    if event.news is None or event.at is None or event.iccid is None:
        assert event.warnings
    if isinstance(event.news, UsageTold):
        assert 0 <= event.news.used_mb <= 1e9
        assert 0.001 <= event.news.total_mb <= 1e9
        assert 0 <= event.news.percentage <= 1e14
