"""
QR codes of activation codes, as PNG, as SVG and for the terminal: dark on light, quiet zone included.

A picture is as secret as the code in it.
"""

import struct
import zlib
from itertools import groupby
from typing import Final

import zxingcpp

QUIET_ZONE: Final = 4
"""Light modules on each side (ISO/IEC 18004 section 9.1)."""

MIN_SCALE: Final = 8
"""Pixels a module that a phone's camera needs to read the code from another screen."""

_LABEL_GAP: Final = 2  # light modules below a label
_GLYPHS: Final[dict[str, tuple[str, ...]]] = {
    "E": ("#####", "#....", "#....", "####.", "#....", "#....", "#####"),
    "S": (".####", "#....", "#....", ".###.", "....#", "....#", "####."),
    "T": ("#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."),
}
_GLYPH_HEIGHT: Final = 7

# The 256-colour palette's black on white: a theme may repaint the first 16 colours, not these.
_TERMINAL_COLOURS: Final = "\x1b[38;5;16;48;5;231m"
_TERMINAL_RESET: Final = "\x1b[0m"
_HALF_BLOCKS: Final = {"..": " ", "#.": "▀", ".#": "▄", "##": "█"}

_Rows = list[str]  # a character a module: `#` is dark, `.` is light
_MARKS: Final = b"#" + b"." * 255  # of a pixel's byte, where 0 is dark
_INVERTED: Final = str.maketrans("#.", ".#")


class QrImpossible(ValueError):
    """The text is too long for a QR code (with error correction M: 2,331 bytes, or 3,391 alphanumeric characters)."""


def qr_png(text: str, *, scale: int = MIN_SCALE, label: str | None = None) -> bytes:
    """
    A PNG in black and white, one bit a pixel.

    Args:
        scale: pixels a module, 8 to 64.
        label: a word below the quiet zone, of the letters T, E and S.

    Raises:
        QrImpossible: the text is too long.
        ValueError: another scale or another letter.
    """
    if not MIN_SCALE <= scale <= 64:
        raise ValueError(f"A QR code is drawn with {MIN_SCALE} to 64 pixels a module.")
    rows = _modules(text)
    rows += _label_rows(label, len(rows))
    width = len(rows[0]) * scale
    lines = b"".join((b"\0" + _packed(row, scale)) * scale for row in rows)  # 0: no filter (PNG section 9.2)
    header = struct.pack(">IIBBBBB", width, len(rows) * scale, 1, 0, 0, 0, 0)  # 1 bit, greyscale, not interlaced
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def qr_svg(text: str, *, label: str | None = None) -> bytes:
    """
    An SVG in UTF-8, 8 CSS pixels a module, that refers to nothing outside and has no title (the code is a secret).

    Args:
        label: a word below the quiet zone, of the letters T, E and S.

    Raises:
        QrImpossible: the text is too long.
        ValueError: another letter in the label.
    """
    rows = _modules(text)
    width, height = len(rows), len(rows) + len(_label_rows(label, len(rows)))
    path = "".join(_svg_runs(row, y) for y, row in enumerate(rows))
    caption = (
        f'<text x="{width / 2:g}" y="{width + _GLYPH_HEIGHT}" text-anchor="middle" fill="#000"'
        f' font-family="sans-serif" font-weight="bold" font-size="9">{label}</text>'
        if label
        else ""
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width * MIN_SCALE}" height="{height * MIN_SCALE}">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        # Without crisp edges a renderer leaves hairlines between rows.
        f'<path fill="#000" shape-rendering="crispEdges" d="{path}"/>{caption}</svg>\n'
    ).encode()


def qr_terminal(text: str, *, label: str | None = None, colour: bool = True) -> str:
    """
    Lines of half blocks, two modules high each, ending with a line feed.

    Args:
        label: a word centred on a line of its own below, of the letters T, E and S.
        colour: sets black on white by escape sequences, so that it reads on dark and light terminals. Without, the
            light modules are the painted ones: right for light text on a dark ground, and for it only.

    Raises:
        QrImpossible: the text is too long.
        ValueError: another letter in the label.
    """
    rows = _modules(text)
    width = len(rows)
    if len(rows) % 2:  # always so, as a QR code has an odd number of modules
        rows.append("." * width)
    if not colour:
        rows = [row.translate(_INVERTED) for row in rows]
    lines = [
        "".join(_HALF_BLOCKS[upper + lower] for upper, lower in zip(*pair, strict=True))
        for pair in zip(*[iter(rows)] * 2, strict=True)
    ]
    if _label_rows(label, width) and label:
        lines.append(label.center(width))
    if colour:
        lines = [f"{_TERMINAL_COLOURS}{line}{_TERMINAL_RESET}" for line in lines]
    return "".join(f"{line}\n" for line in lines)


def _modules(text: str) -> _Rows:
    """The symbol within its quiet zone; a square."""
    try:
        symbol = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    except ValueError:
        raise QrImpossible("The text is too long for a QR code.") from None
    picture = memoryview(symbol.to_image(scale=1, add_quiet_zones=False))  # type: ignore[arg-type]  # a buffer (PEP 688)
    side, marks = len(picture), picture.tobytes().translate(_MARKS).decode("ascii")
    light = "." * QUIET_ZONE
    above = ["." * (side + 2 * QUIET_ZONE)] * QUIET_ZONE
    rows = [light + marks[y * side : (y + 1) * side] + light for y in range(side)]
    return [*above, *rows, *above]


def _label_rows(label: str | None, width: int) -> _Rows:
    """The label in letters of 5 by 7 modules, centred, and a gap below it; nothing without label."""
    if not label:
        return []
    if set(label) - set(_GLYPHS) or len(label) * 6 - 1 > width:
        raise ValueError("A label is a few of the letters T, E and S.")
    lines = [".".join(_GLYPHS[letter][y] for letter in label).center(width, ".") for y in range(_GLYPH_HEIGHT)]
    return lines + ["." * width] * _LABEL_GAP


def _packed(row: str, scale: int) -> bytes:
    """One line of pixels, 8 a byte, 1 is white; padded at its end."""
    size = -(-len(row) * scale // 8)
    bits = row.replace("#", "0" * scale).replace(".", "1" * scale)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _svg_runs(row: str, y: int) -> str:
    """Each run of dark modules of one row as a rectangle."""
    x, runs = 0, []
    for mark, group in groupby(row):
        length = len(list(group))
        if mark == "#":
            runs.append(f"M{x} {y}h{length}v1h-{length}z")
        x += length
    return "".join(runs)
