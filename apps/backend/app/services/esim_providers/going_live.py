"""What has to be known of a supplier before its live switch is turned: what it needs, what it hasn't answered, how it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.services.esim_providers.contract import PreparedOrder


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """Something that the supplier has not told. `answer_goes`: what changes here once it has."""

    name: str
    question: str
    answer_goes: str


@dataclass(frozen=True, slots=True)
class AnswerField:
    """A field of a good answer, as the supplier's contract has it."""

    path: str
    """Its place in the JSON: `data.iccid`."""
    expected: str
    """In words; `{reference}` stands for the order's reference."""
    is_as_expected: Callable[[object, str], bool]
    """Takes the field's value and the order's reference."""
    is_required: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class ShownRequest:
    """The very request that an order is, but for the credentials."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class GoingLive:
    """A supplier's sheet. One without anything in it is a supplier that needs nothing and costs nothing."""

    needs: tuple[str, ...] = ()
    """Names of settings without which no order can be made."""
    needs_when_live: tuple[str, ...] = ()
    base_url_setting: str = ""
    """The environment's name for where orders go."""
    live_switch: str = ""
    """The environment's line that makes orders cost money: `X=value`."""
    replay_switch: str = ""
    """The environment's line by which unknown orders are sent again."""
    open_questions: tuple[OpenQuestion, ...] = ()
    answer_statuses: frozenset[int] = frozenset()
    """HTTP statuses of a good answer."""
    answer: tuple[AnswerField, ...] = ()
    shown: Callable[[PreparedOrder], ShownRequest] | None = None
