"""An answer against the contract, field by field. Pure."""

import json
from dataclasses import dataclass
from typing import Any

from app.services.doctor.findings import Finding, by_hand, failed, passed
from app.services.esim_providers import AnswerField, GoingLive

_ABSENT = object()
_AS_EXPECTED = "as expected"
_MISSING = "missing"
_LEFT_OUT = "left out, which the contract allows"
_OTHERWISE = "not as expected"
_EXTRA = "not in the contract"


@dataclass(frozen=True, slots=True)
class SeenField:
    """
    Attributes:
        got: the value in full, as JSON: it may be an activation code.
        told: of it what may be written down.
    """

    path: str
    expected: str
    got: str
    told: str
    verdict: str
    is_defect: bool

    def finding(self, provider: str) -> Finding:
        name = f"live-{self.path}"
        detail = f"{self.verdict}; expected: {self.expected}; got: {self.told}"
        if self.verdict in {_AS_EXPECTED, _LEFT_OUT}:
            return passed(name, detail)
        to_do = f"ask {provider} about it, and compare with contracts/"
        return failed(name, detail, to_do) if self.is_defect else by_hand(name, detail, to_do)


def compare(sheet: GoingLive, status: int | None, body: Any, reference: str) -> list[SeenField]:  # noqa: ANN401 - whatever was sent
    """
    Args:
        body: parsed where it was JSON.
    """
    statuses = " or ".join(map(str, sorted(sheet.answer_statuses)))
    is_expected = status in sheet.answer_statuses
    verdict = _AS_EXPECTED if is_expected else _OTHERWISE
    seen = [SeenField("status", f"HTTP {statuses}", str(status), str(status), verdict, is_defect=False)]
    seen += [_seen(expected, _at(body, expected.path), reference) for expected in sheet.answer]
    return seen + [_extra(path, value) for path, value in _leaves(body, {field.path for field in sheet.answer})]


def _seen(field: AnswerField, value: object, reference: str) -> SeenField:
    expected = field.expected.format(reference=reference) + ("" if field.is_required else " (may be left out)")
    if value is _ABSENT:
        verdict = _MISSING if field.is_required else _LEFT_OUT
        return SeenField(field.path, expected, "nothing", "nothing", verdict, field.is_required)
    got = json.dumps(value, ensure_ascii=False)
    verdict = _AS_EXPECTED if field.is_as_expected(value, reference) else _OTHERWISE
    told = _described(value) if field.is_secret else got
    return SeenField(field.path, expected, got, told, verdict, is_defect=False)


def _extra(path: str, value: object) -> SeenField:
    return SeenField(path, "no such field", json.dumps(value, ensure_ascii=False), _described(value), _EXTRA, False)


def _described(value: object) -> str:
    return f"a text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"


def _at(body: object, path: str) -> object:
    for name in path.split("."):
        if not isinstance(body, dict) or name not in body:
            return _ABSENT
        body = body[name]
    return body


def _leaves(body: object, known: set[str], prefix: str = "") -> list[tuple[str, object]]:
    """What stands in the answer besides the known fields: the outermost unknown members."""
    if not isinstance(body, dict):
        return []
    found: list[tuple[str, object]] = []
    for name, value in body.items():
        path = f"{prefix}{name}"
        if path in known:
            continue
        if any(other.startswith(f"{path}.") for other in known):
            found += _leaves(value, known, f"{path}.")
        else:
            found.append((path, value))
    return found
