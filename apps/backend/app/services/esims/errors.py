"""What can stand in an activation's way besides the provider (whose failures are `EsimProvisioningError`s)."""

from app.errors import TribiError


class OrderNotPaid(TribiError):
    code = "order-not-paid"
    title = "The order is not paid"
    meaning = "Only a paid order becomes an eSIM. This one was cancelled or refunded; place and pay a new order."
    http_status = 409


class OutcomeStillUnknown(TribiError):
    """An activation was asked for an eSIM whose last attempt ended without a clear answer."""

    code = "activation-outcome-unknown"
    title = "It is not known whether the eSIM was issued"
    meaning = (
        "An earlier activation of this order was sent to the provider without a clear answer. It is not sent again, so that "
        "nothing is bought twice; the operator settles it. Look at the eSIM again later."
    )
    http_status = 409


class ProviderBusy(TribiError):
    code = "provider-busy"
    title = "Too many activations are waiting for the provider"
    meaning = (
        "No place in the queue to the eSIM provider came free in time. Nothing was sent; activate the order again."
    )
    http_status = 503
    retryable = True


class ProviderOnHold(TribiError):
    """The provider asked to wait (429 with `Retry-After`), and that time isn't over."""

    code = "provider-rate-limited"
    title = "The provider asks to wait"
    meaning = "The eSIM provider takes no more orders for now. Nothing was sent; activate the order again after `Retry-After`."
    http_status = 503
    retryable = True


class ShuttingDown(TribiError):
    """The process ends and takes no new work."""

    code = "provider-busy"
    title = "Too many activations are waiting for the provider"
    meaning = "This server is shutting down and takes no new activations. Nothing was sent; activate the order again."
    http_status = 503
    retryable = True
