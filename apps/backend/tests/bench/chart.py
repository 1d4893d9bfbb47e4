"""The targets as a picture: how far each figure is on either side of its target."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tests.bench.report import number
from tests.bench.results import ROOT, Record, Target

CHART = ROOT / "docs" / "performance.png"
_ROW, _TOP, _NAMES, _BARS, _REST = 44, 70, 420, 620, 320
_MOST = 4.0
"""Times better than the target; a longer bar is cut off."""
_MET, _MISSED, _INK, _FAINT, _PAPER = "#2a7f4f", "#b3382c", "#222222", "#bbbbbb", "#ffffff"


def draw(record: Record, path: Path = CHART) -> None:
    """A bar a target, as a share of it: past the line it is met. A thin line spans the repetitions."""
    height = _TOP + _ROW * len(record.targets) + 20
    picture = Image.new("RGB", (_NAMES + _BARS + _REST, height), _PAPER)
    pen = ImageDraw.Draw(picture)
    title, text = ImageFont.load_default(22), ImageFont.load_default(17)
    pen.text((16, 14), f"Targets of performance, {record.at}, {record.commit}", _INK, title)
    pen.text((_at(1) - 22, _TOP - 24), "target", _INK, text)
    for nth, target in enumerate(record.targets):
        _row(pen, text, _TOP + nth * _ROW, target)
    pen.line((_at(1), _TOP - 4, _at(1), height - 16), _INK, 2)
    picture.save(path, optimize=True)


def _at(share: float) -> float:
    return _NAMES + min(max(share, 0.0), _MOST) / _MOST * _BARS


def _row(
    pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, top: int, target: Target
) -> None:
    middle = top + _ROW // 2
    name = target.figure.name.replace("÷", "/")  # Pillow's own font has ASCII and little more
    pen.text((16, middle), f"{target.key}  {name}", _INK, font, anchor="lm")
    pen.rectangle(
        (_NAMES, top + 8, max(_at(target.share), _NAMES + 1), top + _ROW - 8), _MET if target.is_met else _MISSED
    )
    ends = sorted(_at(_share(target, value)) for value in (target.figure.low, target.figure.high))
    pen.line((ends[0], middle, ends[1], middle), _FAINT, 3)
    sign = "at least" if target.is_least else "at most"
    unit = "" if target.figure.unit == "ratio" else f" {target.figure.unit}"
    shown = f"{number(target.figure.median)}{unit}  ({sign} {number(target.bound)}{unit})"
    pen.text((_NAMES + _BARS + 16, middle), shown, _INK, font, anchor="lm")


def _share(target: Target, value: float) -> float:
    if not value or not target.bound:
        return target.share
    return value / target.bound if target.is_least else target.bound / value
