"""The tables, one file an aggregate, constraints included. Importing this package registers all of them on `Base.metadata`."""

from app.db import Base
from app.models.accounts import RateLimit, ServiceKey, SignInCode, Traveller, TravellerSession
from app.models.audit import AuditEntry
from app.models.catalogue import Plan, PlanCode
from app.models.esims import EsimProfile, ProvisioningAttempt
from app.models.events import ReceivedEvent
from app.models.installation import EncryptionKey, Installation, ProviderState
from app.models.mail import CrossedThreshold, OutgoingMail
from app.models.orders import IdempotencyKey, Order
from app.models.recovery import ForgottenAttempt
from app.models.webhooks import WebhookDelivery, WebhookEndpoint, WebhookEvent

__all__ = [
    "AuditEntry",
    "Base",
    "CrossedThreshold",
    "EncryptionKey",
    "EsimProfile",
    "ForgottenAttempt",
    "IdempotencyKey",
    "Installation",
    "Order",
    "OutgoingMail",
    "Plan",
    "PlanCode",
    "ProviderState",
    "ProvisioningAttempt",
    "RateLimit",
    "ReceivedEvent",
    "ServiceKey",
    "SignInCode",
    "Traveller",
    "TravellerSession",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
]
