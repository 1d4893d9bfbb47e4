"""The shapes in which Tribi shows its things to programs: over HTTP, and with `--json` on the command line.

A field that is here is a promise to clients; a secret that isn't, stays inside.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from app.install_links import install_links
from app.services.catalogue.plans import SellablePlan
from app.services.esims.esim import Esim
from app.services.orders.page_links import page_address
from app.services.orders.show import OrderView
from app.services.webhooks.deliveries import LoggedDelivery
from app.services.webhooks.endpoints import Endpoint
from app.values.locales import price_text

Item = TypeVar("Item")


def rfc3339(instant: datetime | None) -> str | None:
    """In UTC, to the millisecond."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if instant else None


Instant = Annotated[datetime, PlainSerializer(rfc3339, when_used="json"), Field(examples=["2026-11-23T12:00:00.000Z"])]


class Shape(BaseModel):
    model_config = ConfigDict(frozen=True)


class Install(Shape):
    """Ways to install the eSIM. As secret as the activation code itself."""

    page_url: str | None = Field(
        description="The install page for the traveller, there from the order on. Null once it has expired or was withdrawn, and "
        "for an eSIM that was ordered before there were such pages, until it is sent to the traveller."
    )
    ios_url: str | None = Field(description="Opens the installation on iPhones (iOS 17.4 and later).")
    android_url: str | None = Field(description="Opens the installation on Android 10 and later (uneven among makers).")


class EsimShape(Shape):
    """An eSIM: what an order becomes. `status`, `profile_state` and `plan_state` are independent of each other."""

    id: int
    order_id: int
    status: str = Field(
        description="pending, provisioning, provisioned, refused, unknown or cancelled", examples=["provisioned"]
    )
    is_live: bool = Field(description="False for tests: LOCAL and dry runs give eSIMs that no phone can load.")
    provider: str = Field(examples=["CONNECTED_YOU"])
    provider_reference: str | None = Field(examples=["order-1"])
    provisioned_at: Instant | None
    activation_code: str | None = Field(
        description="GSMA SGP.22 section 4.1; a secret", examples=["LPA:1$SMDP.EXAMPLE.COM$A1B2C3"]
    )
    smdp_address: str | None = Field(examples=["SMDP.EXAMPLE.COM"])
    matching_id: str | None = Field(examples=["A1B2C3"])
    confirmation_code_required: bool
    iccid: str | None = Field(description="ITU-T E.118", examples=["8999900000000000003"])
    qr_code: str | None = Field(description="The text that the QR encodes")
    qr_png_url: str | None
    qr_svg_url: str | None
    install: Install
    instructions: str | None
    profile_state: str | None = Field(
        description="released, downloaded, installed, enabled, disabled, deleted; null until known"
    )
    plan_state: str | None = Field(
        description="not_started, active, depleted, expired, terminated; null until provisioned"
    )
    data_used_mb: float | None
    data_total_mb: float | None
    usage_at: Instant | None
    warnings: list[str] = Field(description="What is odd about the provider's answer; the eSIM was kept all the same.")


class Customer(Shape):
    email: str = Field(examples=["traveller@example.com"])
    name: str = Field(examples=["Ana Traveller"])
    locale: str | None = Field(
        description="BCP 47: the language of messages to the customer; null: the shop's own", examples=["pt-BR"]
    )


class PlanSnapshot(Shape):
    """The plan as it was when it was sold."""

    sku: str
    name: str
    country_iso2: str = Field(description="Of a plan for several countries the primary one")
    countries: list[str] = Field(description="All that it is for, `country_iso2` first")
    data_mb: int
    validity_days: int
    price_minor: int
    currency: str
    provider: str | None = Field(description="Whose code `external_id` is")
    external_id: str | None = Field(description="The provider's code for the plan; null for LOCAL")


class OrderShape(Shape):
    """One plan for one customer."""

    id: int
    status: str = Field(description="paid, cancelled or refunded", examples=["paid"])
    sku: str = Field(examples=["es-5gb-30d"])
    plan_snapshot: PlanSnapshot
    amount_minor: int = Field(description="In minor units of the currency", examples=[1290])
    currency: str = Field(description="ISO 4217", examples=["EUR"])
    customer: Customer
    esim: EsimShape
    created_at: Instant


class ResendShape(Shape):
    """A message that is on its way. Whether the mail server took it is on file for the shop's staff."""

    esim_id: int
    mail_id: int
    left_today: int = Field(description="How many more may be asked for, for this eSIM within 24 hours", examples=[4])


class PlanShape(Shape):
    """A plan on sale."""

    sku: str = Field(examples=["es-5gb-30d"])
    name: str = Field(examples=["Spain 5 GB"])
    country_iso2: str = Field(
        description="ISO 3166-1 alpha-2; of a plan for several countries the primary one", examples=["ES"]
    )
    countries: list[str] = Field(
        description="All that it is for, `country_iso2` first, then in the order of the alphabet",
        examples=[["ES", "FR", "PT"]],
    )
    data_mb: int = Field(examples=[5120])
    validity_days: int = Field(examples=[30])
    price_minor: int = Field(description="In minor units of the currency", examples=[1290])
    currency: str = Field(description="ISO 4217", examples=["EUR"])
    price_formatted: str = Field(
        description="The price as it is written in the answer's `Content-Language`; white space in it doesn't break",
        examples=["€12.90"],
    )
    is_orderable: bool = Field(
        description="False while the configured provider has no code for it: an order is refused"
    )


class EndpointShape(Shape):
    """A URL that hears of events."""

    id: int
    url: str = Field(examples=["https://shop.example.com/tribi"])
    events: list[str] = Field(description="Which ones; empty for all", examples=[["esim.provisioned"]])
    is_enabled: bool
    disabled_because: str | None = Field(
        description="asked, gone (it answered 410) or failing (it took nothing for five days)"
    )
    disabled_at: Instant | None
    failing_since: Instant | None = Field(description="Nothing was taken since then")
    previous_secret_until: Instant | None = Field(
        description="Until then messages are signed with the former secret, too"
    )
    created_at: Instant


class EndpointWithSecretShape(EndpointShape):
    """With the secret, which nobody can see again."""

    secret: str = Field(description="Signs what is sent, as Standard Webhooks has it", examples=["whsec_c2VjcmV0"])


class AttemptShape(Shape):
    at: str = Field(examples=["2026-11-23T12:00:00.000Z"])
    outcome: str = Field(description="delivered, refused, gone, timeout, unreachable or forbidden")
    status: int | None = Field(description="HTTP's, null where there was no answer")
    ms: int
    said: str | None = Field(description="By the receiver or the network; cut and redacted")


class DeliveryShape(Shape):
    """One event to one endpoint."""

    id: int
    endpoint_id: int
    message_id: str = Field(description="The header `webhook-id` of every attempt", examples=["msg_5f0c"])
    payload: dict[str, Any] = Field(description="As in the document's `webhooks`")
    status: str = Field(description="pending, delivered or failed", examples=["delivered"])
    attempts: int = Field(description="Of the present round; a redelivery begins another")
    next_attempt_at: Instant | None
    created_at: Instant
    ended_at: Instant | None
    history: list[AttemptShape] = Field(description="The attempts of all rounds, the newest at the end, 50 at most")


class Page(Shape, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor` to get the next page; null on the last one.")


def esim_shape(esim: Esim, base_url: str) -> EsimShape:
    """
    Args:
        base_url: what links start with, without a slash at the end.
    """
    code = esim.activation_code
    links = install_links(code) if code else None
    picture = f"{base_url}/api/esims/{esim.id}/qr" if code else None
    return EsimShape(
        id=esim.id,
        order_id=esim.order_id,
        status=esim.status,
        is_live=esim.is_live,
        provider=esim.provider,
        provider_reference=esim.provider_reference,
        provisioned_at=esim.provisioned_at,
        activation_code=code.text if code else None,
        smdp_address=code.smdp_address if code else None,
        matching_id=code.matching_id if code else None,
        confirmation_code_required=code.confirmation_code_required if code else False,
        iccid=esim.iccid,
        qr_code=esim.qr_code,
        qr_png_url=picture and f"{picture}.png",
        qr_svg_url=picture and f"{picture}.svg",
        install=Install(
            page_url=page_address(base_url, esim.page_token) if esim.page_token else None,
            ios_url=links.ios_url if links else None,
            android_url=links.android_url if links else None,
        ),
        instructions=esim.instructions,
        profile_state=esim.profile_state,
        plan_state=esim.plan_state,
        data_used_mb=esim.data_used_mb,
        data_total_mb=esim.data_total_mb,
        usage_at=esim.usage_at,
        warnings=list(esim.warnings),
    )


def order_shape(order: OrderView, esim: Esim, base_url: str) -> OrderShape:
    snapshot: dict[str, Any] = order.plan_snapshot
    return OrderShape(
        id=order.id,
        status=order.status,
        sku=snapshot["sku"],
        # what was sold before there were plans for regions was for one country
        plan_snapshot=PlanSnapshot.model_validate({"countries": [snapshot["country_iso2"]]} | snapshot),
        amount_minor=order.amount_minor,
        currency=order.currency,
        customer=Customer(email=order.customer_email, name=order.customer_name, locale=order.customer_locale),
        esim=esim_shape(esim, base_url),
        created_at=order.created_at,
    )


def plan_shape(plan: SellablePlan, locale: str) -> PlanShape:
    """
    Args:
        locale: of its formatted price, from `read_locale`.
    """
    return PlanShape(
        sku=plan.sku,
        name=plan.name,
        country_iso2=plan.country_iso2,
        countries=list(plan.countries),
        data_mb=plan.data_mb,
        validity_days=plan.validity_days,
        price_minor=plan.price_minor,
        currency=plan.currency,
        price_formatted=price_text(plan.price_minor, plan.currency, locale),
        is_orderable=plan.is_orderable,
    )


def endpoint_shape(endpoint: Endpoint) -> EndpointShape:
    return EndpointShape(
        id=endpoint.id,
        url=endpoint.url,
        events=list(endpoint.events),
        is_enabled=endpoint.is_enabled,
        disabled_because=endpoint.disabled_because,
        disabled_at=endpoint.disabled_at,
        failing_since=endpoint.failing_since,
        previous_secret_until=endpoint.previous_secret_until,
        created_at=endpoint.created_at,
    )


def endpoint_with_secret_shape(endpoint: Endpoint, secret: str) -> EndpointWithSecretShape:
    return EndpointWithSecretShape(**dict(endpoint_shape(endpoint)), secret=secret)


def delivery_shape(delivery: LoggedDelivery) -> DeliveryShape:
    return DeliveryShape(
        id=delivery.id,
        endpoint_id=delivery.endpoint_id,
        message_id=delivery.message_id,
        payload=delivery.payload,
        status=delivery.status,
        attempts=delivery.attempts,
        next_attempt_at=delivery.next_attempt_at,
        created_at=delivery.created_at,
        ended_at=delivery.ended_at,
        history=[AttemptShape.model_validate(attempt) for attempt in delivery.history],
    )
