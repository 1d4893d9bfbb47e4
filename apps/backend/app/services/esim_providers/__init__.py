"""Suppliers of eSIM profiles, interchangeable. This is the door: nobody outside this folder knows a supplier by name."""

from app.services.esim_providers.contract import (
    Accepted,
    Answer,
    Capabilities,
    Dedupe,
    Delivered,
    EsimProvider,
    EsimProvisioningError,
    PreparedOrder,
    ProvisionRequest,
    SupplierNotConfigured,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
    TakesCredential,
)
from app.services.esim_providers.registry import (
    get_esim_provider,
    plan_code_provider,
    provider_names,
    providers_with_plan_codes,
)

__all__ = [
    "Accepted",
    "Answer",
    "Capabilities",
    "Dedupe",
    "Delivered",
    "EsimProvider",
    "EsimProvisioningError",
    "PreparedOrder",
    "ProvisionRequest",
    "SupplierNotConfigured",
    "SupplierOutcomeUnknown",
    "SupplierRateLimited",
    "SupplierRefused",
    "SupplierUnreachable",
    "TakesCredential",
    "get_esim_provider",
    "plan_code_provider",
    "provider_names",
    "providers_with_plan_codes",
]
