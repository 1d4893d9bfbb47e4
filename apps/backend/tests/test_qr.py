"""Each picture is turned back into modules, read by a decoder, and its quiet zone looked at by itself."""

import io
import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
import segno
import zxingcpp
from PIL import Image

from app.qr import QUIET_ZONE, QrImpossible, qr_png, qr_svg, qr_terminal

CODE = "LPA:1$SMDP.GSMA.COM$04386-AGYFT-A74Y8-3F815"
TEXTS = [
    CODE,
    "LPA:1$smdp.gsma.com$ab12-cd34",
    "LPA:1$XYZ",
    "LPA:" + "1$SMDP.GSMA.COM$".ljust(255, "A"),
    "LPA:" + "1$smdp.gsma.com$".ljust(255, "a"),
    "LPA:1$SMDP.GSMÄ.COM$日本",
]
Rows = list[list[bool]]


def png_modules(text: str, label: str | None = None, scale: int = 8) -> Rows:
    image = Image.open(io.BytesIO(qr_png(text, scale=scale, label=label)))
    assert (image.format, image.mode) == ("PNG", "1")
    return [[image.getpixel((x, y)) == 0 for x in range(0, image.width, scale)] for y in range(0, image.height, scale)]


def svg_modules(text: str, label: str | None = None) -> Rows:
    root = ET.fromstring(qr_svg(text, label=label))  # noqa: S314 - our own picture
    _, _, width, height = map(int, root.attrib["viewBox"].split())
    rows = [[False] * width for _ in range(height)]
    path = root.find("{*}path")
    assert path is not None
    drawn = re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path.attrib["d"])
    assert "".join(f"M{x} {y}h{length}v1h-{length}z" for x, y, length in drawn) == path.attrib["d"]
    for x, y, length in drawn:
        rows[int(y)][int(x) : int(x) + int(length)] = [True] * int(length)
    return rows


def terminal_modules(text: str, label: str | None = None) -> Rows:
    rows: Rows = []
    for line in qr_terminal(text, label=label).splitlines():
        drawn = re.fullmatch(r"\x1b\[38;5;16;48;5;231m([ ▀▄█TES]+)\x1b\[0m", line)
        assert drawn is not None
        rows += [[half in "▀█" for half in drawn[1]], [half in "▄█" for half in drawn[1]]]
    return rows


def decoded(rows: Rows, scale: int = 8) -> str:
    image = Image.new("L", (len(rows[0]), len(rows)))
    image.putdata([0 if dark else 255 for row in rows for dark in row])
    [found] = zxingcpp.read_barcodes(
        image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    )
    assert found.format == zxingcpp.BarcodeFormat.QRCode
    return found.text


DRAWINGS: list[Callable[..., Rows]] = [png_modules, svg_modules, terminal_modules]


@pytest.mark.parametrize("label", [None, "TEST"])
@pytest.mark.parametrize("draw", DRAWINGS)
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:30]))
def test_every_picture_reads_back_as_the_text(draw: Callable[..., Rows], text: str, label: str | None) -> None:
    assert decoded(draw(text, label)) == text


@pytest.mark.parametrize("label", [None, "TEST"])
@pytest.mark.parametrize("draw", DRAWINGS)
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:30]))
def test_the_quiet_zone_is_four_light_modules_on_each_side(
    draw: Callable[..., Rows], text: str, label: str | None
) -> None:
    rows = draw(text, label)
    side = len(rows[0])
    square = rows[:side]
    margin = [*range(QUIET_ZONE), *range(side - QUIET_ZONE, side)]
    assert not any(any(square[y]) for y in margin)
    assert not any(row[x] for row in square for x in margin)
    corners = (QUIET_ZONE, side - QUIET_ZONE - 1)
    assert [square[y][x] for y in corners for x in corners][:3] == [True, True, True]  # three finders, to its very edge


@pytest.mark.parametrize("draw", DRAWINGS)
def test_the_modules_are_those_of_a_full_qr_code_with_error_correction_m(draw: Callable[..., Rows]) -> None:
    symbol = segno.make_qr(CODE, error="M", boost_error=False)
    expected = [[bool(module) for module in row] for row in symbol.matrix_iter(border=4)]
    assert draw(CODE)[: len(expected)] == expected


def test_a_short_text_makes_no_micro_qr() -> None:
    assert len(png_modules("1$A")) == 21 + 2 * QUIET_ZONE


def test_upper_case_codes_take_a_smaller_symbol() -> None:
    assert len(png_modules(CODE)) < len(png_modules(CODE.lower()))


def test_a_module_is_eight_pixels_unless_more_are_asked_for() -> None:
    assert Image.open(io.BytesIO(qr_png(CODE))).width == len(png_modules(CODE)) * 8
    assert Image.open(io.BytesIO(qr_png(CODE, scale=11))).width == len(png_modules(CODE)) * 11
    assert png_modules(CODE, "TEST", scale=11) == png_modules(CODE, "TEST")


@pytest.mark.parametrize("scale", [-1, 0, 7, 65])
def test_modules_too_small_for_a_camera_or_too_large_are_refused(scale: int) -> None:
    with pytest.raises(ValueError, match="8 to 64 pixels"):
        qr_png(CODE, scale=scale)


def test_the_png_itself_is_read_by_a_decoder() -> None:
    with Image.open(io.BytesIO(qr_png(CODE, label="TEST"))) as image:
        assert [found.text for found in zxingcpp.read_barcodes(image.convert("L"))] == [CODE]


def test_the_png_says_test_below_the_quiet_zone() -> None:
    rows = png_modules(CODE, "TEST")
    drawn = ["".join("#" if dark else " " for dark in row).strip() for row in rows[len(rows[0]) :]]
    assert drawn == [
        "##### #####  #### #####",
        "#   #     #       #",
        "#   #     #       #",
        "#   ####   ###    #",
        "#   #         #   #",
        "#   #         #   #",
        "#   ##### ####    #",
        "",
        "",
    ]


def test_the_svg_says_test_below_the_quiet_zone() -> None:
    root = ET.fromstring(qr_svg(CODE, label="TEST"))  # noqa: S314 - our own picture
    caption = root.find("{*}text")
    assert caption is not None
    assert caption.text == "TEST"
    side = len(svg_modules(CODE))
    assert float(caption.attrib["y"]) - float(caption.attrib["font-size"]) * 0.75 >= side  # capitals are that high
    assert float(caption.attrib["y"]) < int(root.attrib["viewBox"].split()[3])


def test_the_terminal_says_test_on_a_line_of_its_own() -> None:
    assert " TEST " in qr_terminal(CODE, label="TEST").splitlines()[-1]


@pytest.mark.parametrize("draw", [qr_png, qr_svg, qr_terminal])
@pytest.mark.parametrize("label", ["LIVE", "<b>", "TESTTESTTEST"])
def test_no_other_label_is_drawn(draw: Callable[..., object], label: str) -> None:
    with pytest.raises(ValueError, match="label"):
        draw(CODE, label=label)


def test_the_svg_stands_alone() -> None:
    svg = qr_svg(CODE, label="TEST").decode()
    root = ET.fromstring(svg)  # noqa: S314 - our own picture
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {"svg", "rect", "path", "text"}
    assert not re.search(r"href|url\(|style|<!|SMDP", svg)
    _, _, width, height = map(int, root.attrib["viewBox"].split())
    assert (int(root.attrib["width"]), int(root.attrib["height"])) == (width * 8, height * 8)


def test_without_colours_the_terminal_paints_the_light_modules() -> None:
    drawn = qr_terminal(CODE, colour=False)
    assert "\x1b" not in drawn
    assert drawn.splitlines()[0] == "█" * len(png_modules(CODE))


@pytest.mark.parametrize("draw", [qr_png, qr_svg, qr_terminal])
def test_a_text_beyond_the_largest_symbol_is_refused_by_name(draw: Callable[..., object]) -> None:
    with pytest.raises(QrImpossible):
        draw("a" * 2332)
