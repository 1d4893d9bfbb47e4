"""connected_you: who is the provider, and what its events say. No event of it, and no garbage, makes the reader fail."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.services.esim_providers import (
    PlanTold,
    ProfileTold,
    Refusal,
    UsageTold,
    event_source,
    provider_names,
)
from app.services.esim_providers.connected_you.events import ConnectedYouEvents
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


def test_connected_you_usage_alert_keeps_the_measured_percentage() -> None:
    event = read(event_type="USAGE_ALERT", data_consumed=2625.02, data_total=5120, percentage_consumed=51.27)
    assert (event.news, event.warnings) == (UsageTold(2625.02, 5120, 51.27), ())


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
    assert read(event_type="PROFILE_LIFECYCLE", status="ENABLED", event_timestamp=text).at == AT


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
        ([(b"x-webhook-secret", b"")], Refusal.WRONG),
        ([(b"x-webhook-secret", b"s3cre")], Refusal.WRONG),
        ([(b"x-webhook-secret", b"s3cret\xff")], Refusal.WRONG),
        ([(b"x-webhook-secret", b"s3cret"), (b"x-webhook-secret", b"s3cret")], Refusal.TWICE),
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


@hypothesis_settings(max_examples=500, deadline=None, derandomize=True)
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
