"""What an import would change: a file's rows against the stored ones. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.services.catalogue.rows import (
    PLAN_COLUMNS,
    CatalogueFile,
    CatalogueRow,
    ProviderCode,
    code_column,
    cost_column,
)


@dataclass(frozen=True, slots=True)
class StoredPlan:
    row: CatalogueRow
    is_on_sale: bool


@dataclass(frozen=True, slots=True)
class FieldChange:
    """`column`: the file's, or `is_on_sale`. None: empty."""

    column: str
    old: str | int | None
    new: str | int | None


@dataclass(frozen=True, slots=True)
class PlanChange:
    row: CatalogueRow
    """As the plan will be, codes that the file doesn't state included."""
    before: CatalogueRow
    fields: tuple[FieldChange, ...]

    @property
    def changes_plan(self) -> bool:
        """Whether more changes than codes and costs."""
        return any(field.column in PLAN_COLUMNS or field.column == "is_on_sale" for field in self.fields)


@dataclass(frozen=True, slots=True)
class Diff:
    """`unchanged`: plans that the file states as they are. `kept`: plans on sale that it doesn't mention and that stay."""

    added: tuple[CatalogueRow, ...]
    changed: tuple[PlanChange, ...]
    withdrawn: tuple[str, ...]
    """SKUs."""
    unchanged: int
    kept: int

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.withdrawn)

    def counts(self) -> dict[str, int]:
        return {
            "added": len(self.added),
            "changed": len(self.changed),
            "unchanged": self.unchanged,
            "withdrawn": len(self.withdrawn),
            "kept": self.kept,
        }


def compare(file: CatalogueFile, stored: Mapping[str, StoredPlan], *, replacing: bool) -> Diff:
    """
    Args:
        stored: by SKU; plans no longer on sale included, being mentioned puts them back.
        replacing: what the file doesn't mention is taken off sale instead of kept.
    """
    added, changed, unchanged = [], [], 0
    for row in file.rows:
        before = stored.get(row.sku)
        if before is None:
            added.append(row)
        elif change := _change(file, before, row):
            changed.append(change)
        else:
            unchanged += 1
    mentioned = {row.sku for row in file.rows}
    others = [sku for sku, plan in stored.items() if plan.is_on_sale and sku not in mentioned]
    return Diff(
        added=tuple(added),
        changed=tuple(changed),
        withdrawn=tuple(others) if replacing else (),
        unchanged=unchanged,
        kept=0 if replacing else len(others),
    )


def _change(file: CatalogueFile, stored: StoredPlan, row: CatalogueRow) -> PlanChange | None:
    before = stored.row
    if row == before and stored.is_on_sale:  # nearly always; spares the rest
        return None
    after = replace(row, codes=_codes_after(file, before, row))
    if after == before and stored.is_on_sale:
        return None
    pairs: list[tuple[str, str | int | None, str | int | None]] = [
        (column, before.cell(column), after.cell(column)) for column in PLAN_COLUMNS
    ]
    if not stored.is_on_sale:
        pairs.append(("is_on_sale", "no", "yes"))
    for provider in file.providers:
        old, new = before.codes.get(provider), after.codes.get(provider)
        pairs.append((code_column(provider), old.external_id if old else None, new.external_id if new else None))
        pairs.append((cost_column(provider), old.cost_minor if old else None, new.cost_minor if new else None))
    return PlanChange(after, before, tuple(FieldChange(*pair) for pair in pairs if pair[1] != pair[2]))


def _codes_after(file: CatalogueFile, before: CatalogueRow, row: CatalogueRow) -> dict[str, ProviderCode]:
    """What the file doesn't state stays: the codes of other providers, and costs where it has no column for them."""
    codes = {provider: code for provider, code in before.codes.items() if provider not in file.providers}
    for provider, code in row.codes.items():
        old = before.codes.get(provider)
        is_cost_stated = provider in file.providers_with_cost
        codes[provider] = code if is_cost_stated or old is None else replace(code, cost_minor=old.cost_minor)
    return codes
