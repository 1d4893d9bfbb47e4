"""The events that a seller can hear of. Their shapes are a promise: each stands in the OpenAPI document's `webhooks`.

They are thin: ids, states and times. Whoever wants the activation code asks for the eSIM with its key.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, TypeAdapter

from app.models.mail import THRESHOLDS
from app.models.webhooks import EVENTS

Kind = Literal[
    "order.paid",
    "esim.provisioned",
    "esim.refused",
    "esim.outcome_unknown",
    "esim.resolved",
    "esim.profile_state_changed",
    "esim.plan_state_changed",
    "esim.usage_alert",
]
ProfileState = Literal["released", "downloaded", "installed", "enabled", "disabled", "deleted"]
Threshold = Literal["data_50", "data_80", "data_100", "expires_24h"]
PlanState = Literal["not_started", "active", "depleted", "expired", "terminated"]

_AS_JSON = TypeAdapter(dict[str, Any])
_NOT_TOLD = "Null where the provider doesn't tell."
_When = Annotated[datetime, Field(description="By the provider's clock.", examples=["2026-11-23T12:00:00.000Z"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What every event says. A subclass is one event; its docstring is what sellers read."""

    kind: ClassVar[Kind]

    order_id: Annotated[int, Field(examples=[123])]
    esim_id: Annotated[int, Field(examples=[123])]
    is_live: Annotated[bool, Field(description="False for tests: LOCAL and dry runs.", examples=[True])]

    @property
    def data(self) -> dict[str, Any]:
        """The payload's `data`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        dumped: dict[str, Any] = _AS_JSON.dump_python(values, mode="json")
        return dumped


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPaid(News):
    """A paid order was placed."""

    kind = "order.paid"
    status: Literal["paid"] = "paid"


@dataclass(frozen=True, slots=True, kw_only=True)
class EsimProvisioned(News):
    """The eSIM is there, by whatever way: `GET /api/esims/{esim_id}` has its activation code. Told once an eSIM."""

    kind = "esim.provisioned"
    status: Literal["provisioned"] = "provisioned"


@dataclass(frozen=True, slots=True, kw_only=True)
class EsimRefused(News):
    """The provider's own no: nothing was issued. The order may be activated again once the reason is gone, or refunded."""

    kind = "esim.refused"
    status: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class EsimOutcomeUnknown(News):
    """Nobody knows whether the eSIM was issued. Don't refund or order anew: `esim.provisioned` or `esim.resolved` follows."""

    kind = "esim.outcome_unknown"
    status: Literal["unknown"] = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class EsimResolved(News):
    """
    A person has settled an unknown outcome. Issued: `esim.provisioned` is told as well. Not issued: the order may be activated
    again, or refunded.
    """

    kind = "esim.resolved"
    how: Annotated[Literal["issued", "not_issued"], Field(examples=["issued"])]
    status: Annotated[Literal["provisioned", "pending"], Field(examples=["provisioned"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class EsimProfileStateChanged(News):
    """What the traveller's device has done with the profile (GSMA SGP.22), as the provider reports it."""

    kind = "esim.profile_state_changed"
    profile_state: Annotated[ProfileState, Field(examples=["enabled"])]
    changed_at: _When


@dataclass(frozen=True, slots=True, kw_only=True)
class EsimPlanStateChanged(News):
    """The data package has begun, is used up or has ended, as the provider reports it."""

    kind = "esim.plan_state_changed"
    plan_state: Annotated[PlanState, Field(examples=["active"])]
    changed_at: _When


@dataclass(frozen=True, slots=True, kw_only=True)
class EsimUsageAlert(News):
    """A threshold was reached. Told once an eSIM and threshold, whether the provider or Tribi has noticed."""

    kind = "esim.usage_alert"
    threshold: Annotated[
        Threshold,
        Field(
            description="`data_80`: 80 % of the data are used; `expires_24h`: the plan ends within 24 hours.",
            examples=["data_80"],
        ),
    ]
    data_used_mb: Annotated[float | None, Field(description=_NOT_TOLD, examples=[4096.0])] = None
    data_total_mb: Annotated[float | None, Field(description=_NOT_TOLD, examples=[5120.0])] = None
    usage_at: Annotated[
        datetime | None,
        Field(description="Of the usage, by the provider's clock.", examples=["2026-11-23T12:00:00.000Z"]),
    ] = None


KINDS: dict[str, type[News]] = {
    news.kind: news
    for news in (
        OrderPaid,
        EsimProvisioned,
        EsimRefused,
        EsimOutcomeUnknown,
        EsimResolved,
        EsimProfileStateChanged,
        EsimPlanStateChanged,
        EsimUsageAlert,
    )
}
assert tuple(KINDS) == EVENTS  # noqa: S101 - the table's constraint knows the same events
assert get_args(Threshold) == THRESHOLDS  # noqa: S101 - and that of another table the same thresholds


def schema_of(news: type[News]) -> dict[str, Any]:
    """The JSON Schema of an event's data. Receivers have to bear fields that are added to it."""
    schema = TypeAdapter(news).json_schema()
    schema["required"] = list(schema["properties"])
    for value in schema["properties"].values():
        value.pop("default", None)
    return schema


def example_of(news: type[News]) -> dict[str, Any]:
    """Valid by its schema."""
    properties = schema_of(news)["properties"]
    return {name: value["const"] if "const" in value else value["examples"][0] for name, value in properties.items()}


def read_events(names: list[str]) -> list[str]:
    """
    An endpoint's filter, in one order and each once; empty for all.

    Raises:
        ValueError: there is no such event.
    """
    if unknown := set(names) - set(EVENTS):
        raise ValueError(f"there is no event {min(unknown)[:60]!r}; there are: {', '.join(EVENTS)}")
    return [name for name in EVENTS if name in names]
