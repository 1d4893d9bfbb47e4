"""The message with which a traveller installs: the way to the page, one tap, QR, the code for typing, plain steps."""

from email.message import EmailMessage

from app.install_links import install_links
from app.letterhead import one_line
from app.mime_parts import Picture
from app.qr import QrImpossible, qr_png
from app.services.messages.letter import Letter, texts_for, write
from app.settings import Settings
from app.traveller import Texts
from app.values.activation_code import ActivationCode

_PIXELS_A_MODULE = 12
_PIXELS_A_POINT = 2  # as many as a phone's screen has, so that the picture stays sharp


def instructions_mail(settings: Settings, letter: Letter) -> EmailMessage:
    """Of a provisioned eSIM."""
    code = letter.esim.activation_code
    assert code is not None  # noqa: S101 - a provisioned one has it
    texts = texts_for(letter.order, settings)
    snapshot = letter.order.plan_snapshot
    picture = _picture(letter, code)
    return write(
        settings,
        letter,
        texts,
        subject=texts("mail.subject", plan=letter.plan),
        template="mail_instructions",
        includes=texts(
            "mail.includes",
            data=texts.data(snapshot["data_mb"]),
            days=texts.counted("mail.days", snapshot["validity_days"]),
        ),
        links=install_links(code),
        picture=picture,
        rows=_rows(code, texts),
        from_network=[line for line in map(one_line, (letter.esim.instructions or "").splitlines()) if line],
    )


def _picture(letter: Letter, code: ActivationCode) -> Picture | None:
    text = letter.esim.qr_code or code.lpa
    try:
        png = qr_png(text, scale=_PIXELS_A_MODULE, label=None if letter.esim.is_live else "TEST")
    except QrImpossible:
        return None  # an odd code, too long for one: the traveller types it
    width = int.from_bytes(png[16:20])  # PNG section 11.2.2
    return Picture(png, f"qr.{letter.name}@esim.invalid", "esim-qr.png", width // _PIXELS_A_POINT)


def _rows(code: ActivationCode, texts: Texts) -> list[tuple[str, str, bool]]:
    """What is to be typed: a label, the value, and whether that is a code."""
    rows = []
    if code.smdp_address is not None:
        rows.append((texts("manual.smdp_address"), code.smdp_address, True))
        if code.matching_id:
            rows.append((texts("manual.matching_id"), code.matching_id, True))
        else:
            rows.append((texts("manual.matching_id"), texts("manual.matching_id_empty"), False))
    rows.append((texts("manual.whole_code"), one_line(code.lpa), True))
    if code.confirmation_code_required:
        rows.append((texts("manual.confirmation_code"), texts("manual.confirmation_code_needed"), False))
    return rows
