"""What Prometheus scrapes. Labels come from closed sets; nothing personal, no code, no number of a card is among them."""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

ACTIVATIONS = Counter(
    "tribi_activations", "Calls to a provider that have ended, by what they left behind.", ["provider", "outcome"]
)
PROVIDER_SECONDS = Histogram(
    "tribi_provider_seconds",
    "How long a provider takes to answer an order.",
    ["provider"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 60),
)
PROVIDER_CALLS_IN_FLIGHT = Gauge(
    "tribi_provider_calls_in_flight", "Calls to a provider under way.", multiprocess_mode="livesum"
)
HTTP_REQUESTS = Counter("tribi_http_requests", "Requests answered.", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "tribi_http_seconds",
    "How long a request takes.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
ESIMS_UNKNOWN = Gauge(
    "tribi_esims_unknown",
    "eSIMs whose last attempt ended without a clear answer, for a person to settle: an alarm.",
    multiprocess_mode="mostrecent",
)
ORDERS_UNFULFILLED = Gauge(
    "tribi_orders_unfulfilled",
    "Paid orders that are not provisioned 15 minutes later: an alarm.",
    multiprocess_mode="mostrecent",
)
ACCOUNT_REFUSALS = Counter(
    "tribi_provider_account_refusals", "Refusals about our account (401, 402, 403): an alarm.", ["provider"]
)
PROVIDER_PAUSED = Gauge(
    "tribi_provider_paused",
    "1 while nothing is sent to the provider, by what keeps it (held, person, circuit or cap): an alarm.",
    ["provider", "by"],
    multiprocess_mode="mostrecent",
)
NOT_SENT_WHILE_PAUSED = Counter(
    "tribi_not_sent_while_paused",
    "Orders that were not sent since their provider is paused, by what.",
    ["provider", "by"],
)
LIVE_ESIMS = Gauge(
    "tribi_live_esims",
    "Live eSIMs that may have been bought in the last hour or day; told where there is a cap.",
    ["window"],
    multiprocess_mode="mostrecent",
)
LIVE_ESIMS_CAP = Gauge(
    "tribi_live_esims_cap",
    "LIVE_ESIMS_PER_HOUR and LIVE_ESIMS_PER_DAY; 0: none.",
    ["window"],
    multiprocess_mode="mostrecent",
)
CIRCUIT_OPENINGS = Counter(
    "tribi_provider_circuit_openings", "Times that a run of failures has opened a provider's circuit.", ["provider"]
)
HELD = Gauge(
    "tribi_held",
    "1 while nothing is sent because the database is older than the intent journal: an alarm.",
    multiprocess_mode="mostrecent",
)
JOURNAL_FAILURES = Counter(
    "tribi_journal_failures", "Orders that were not sent because the intent journal could not be written to: an alarm."
)
PROVIDER_EVENTS = Counter(
    "tribi_provider_events", "Webhooks of a provider that were taken: stored, or a duplicate.", ["provider", "result"]
)
PROVIDER_EVENTS_REFUSED = Counter(
    "tribi_provider_events_refused",
    "Webhooks that were not taken for the provider's, by why: an alarm.",
    ["provider", "reason"],
)
PROVIDER_NEWS = Counter(
    "tribi_provider_news",
    "Events of a provider that were looked at: applied, older, parked or odd.",
    ["provider", "outcome"],
)
PROVIDER_EVENTS_PARKED = Gauge(
    "tribi_provider_events_parked",
    "Events about eSIMs that are not ours an hour after they came: an alarm, unless others share the account.",
    multiprocess_mode="mostrecent",
)
JOBS_FAILED = Counter("tribi_jobs_failed", "Background jobs given up after their last retry: an alarm.", ["task"])
MAILS = Counter(
    "tribi_mails",
    "Messages to travellers that the mail server has taken (`sent`), will not have (`refused`: an alarm), or has not taken for now"
    " (`put_off`; tried again).",
    ["kind", "outcome"],
)
WEBHOOK_ATTEMPTS = Counter(
    "tribi_webhook_attempts", "Messages sent to sellers' webhook endpoints, by what came of it.", ["outcome"]
)
WEBHOOK_DELIVERIES_FAILED = Counter(
    "tribi_webhook_deliveries_failed", "Webhook deliveries given up after their last attempt: an alarm."
)
WEBHOOK_DELIVERIES_PENDING = Gauge(
    "tribi_webhook_deliveries_pending",
    "Webhook deliveries that wait for their first or next attempt, those of disabled endpoints aside.",
    multiprocess_mode="mostrecent",
)
WEBHOOK_ENDPOINTS_FAILING = Gauge(
    "tribi_webhook_endpoints_failing",
    "Enabled webhook endpoints that have taken nothing for an hour although there was something: an alarm.",
    multiprocess_mode="mostrecent",
)
WEBHOOK_ENDPOINTS_DISABLED = Gauge(
    "tribi_webhook_endpoints_disabled",
    "Webhook endpoints that hear of nothing, since they answered 410 or failed for days: an alarm.",
    multiprocess_mode="mostrecent",
)
SURPLUS = Counter("tribi_esims_surplus", "eSIMs issued that no order needs: an alarm.")


def registry() -> CollectorRegistry:
    """The numbers of this process, or of all workers of this server where there are several (`tribi serve --workers`)."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # prometheus-client types only a part of itself
    return together
