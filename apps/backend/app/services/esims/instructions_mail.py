"""The message with which a traveller installs: QR, one tap, the code for typing, plain steps."""

from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from html import escape

from app.install_links import install_links
from app.qr import QrImpossible, qr_png
from app.services.esims.esim import Esim
from app.values.activation_code import ActivationCode
from app.values.email_address import ascii_email

_IPHONE = (
    "Open Settings, Mobile Data (or Cellular), Add eSIM.",
    "Choose Use QR Code, and scan the code (or Enter Details Manually).",
    "At your destination, choose the new line for mobile data and switch on its data roaming.",
)
_ANDROID = (
    "Open Settings, Network & internet (or Connections), SIMs, Add eSIM.",
    "Scan the code (or Enter it manually).",
    "At your destination, choose the new SIM for mobile data and switch on its roaming.",
)
_BUTTON = "display:inline-block;margin:4px 8px 4px 0;padding:12px 18px;border-radius:8px;background:#0b57d0;color:#fff"
_TEST = "TEST: this eSIM was made for a trial and cannot be installed."


def instructions_mail(
    esim: Esim, code: ActivationCode, *, to_name: str, to_address: str, sender: str, plan_name: str
) -> EmailMessage:
    """
    Args:
        esim: provisioned; `code` is its activation code.
        sender: the address it comes from; its domain stands in the Message-ID, which is the same each time.
    """
    message = EmailMessage()
    test = "" if esim.is_live else "TEST "
    message["Subject"] = f"{test}Your eSIM: {plan_name}"
    message["From"] = sender
    message["To"] = Address(display_name=to_name, addr_spec=ascii_email(to_address))
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = f"<esim-{esim.id}-instructions@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_plain(esim, code, to_name, plan_name))
    try:
        picture = qr_png(esim.qr_code or code.lpa, label=None if esim.is_live else "TEST")
    except QrImpossible:
        picture = None  # an odd code, too long for one: the traveller types it
    message.add_alternative(_html(esim, code, to_name, plan_name, has_picture=picture is not None), subtype="html")
    if picture is None:
        return message
    parts = message.get_payload()
    assert isinstance(parts, list)  # noqa: S101 - two alternatives were just added
    html = parts[1]
    assert isinstance(html, EmailMessage)  # noqa: S101 - the second of them
    html.add_related(picture, "image", "png", cid="<qr>", filename="esim-qr.png", disposition="inline")
    return message


def _manual(code: ActivationCode) -> list[tuple[str, str]]:
    fields = [("Activation code", code.lpa)]
    if code.smdp_address is not None:
        fields += [
            ("SM-DP+ address", code.smdp_address),
            ("Activation code to type (matching ID)", code.matching_id or "leave empty"),
        ]
    if code.confirmation_code_required:
        fields.append(("Confirmation code", "needed: ask the shop that sold you this eSIM"))
    return fields


def _plain(esim: Esim, code: ActivationCode, name: str, plan_name: str) -> str:
    links = install_links(code)
    lines = [f"Hello {name},", "", f"your eSIM is ready: {plan_name}.", ""]
    if not esim.is_live:
        lines += [_TEST, ""]
    if links.ios_url and links.android_url:
        lines += [
            "One tap on the phone itself:",
            f"  iPhone (iOS 17.4 and later): {links.ios_url}",
            f"  Android: {links.android_url}",
            "",
        ]
    lines += [f"{label}: {value}" for label, value in _manual(code)]
    for phone, steps in (("iPhone", _IPHONE), ("Android", _ANDROID)):
        lines += ["", f"{phone}:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))]
    if esim.instructions:
        lines += ["", "From the network:", esim.instructions]
    lines += [
        "",
        "Install it while you have Wi-Fi. An eSIM can be installed once: do not delete it from the phone.",
        "",
    ]
    return "\n".join(lines)


def _html(esim: Esim, code: ActivationCode, name: str, plan_name: str, *, has_picture: bool) -> str:
    links = install_links(code)
    taps = "".join(
        f'<a href="{escape(url)}" style="{_BUTTON}">Install on {phone}</a>'
        for phone, url in (("iPhone", links.ios_url), ("Android", links.android_url))
        if url
    )
    rows = "".join(f"<dt>{label}</dt><dd><code>{escape(value)}</code></dd>" for label, value in _manual(code))
    steps = "".join(
        f"<h2 style='font-size:1em'>{phone}</h2><ol>{''.join(f'<li>{escape(step)}</li>' for step in list_)}</ol>"
        for phone, list_ in (("iPhone", _IPHONE), ("Android", _ANDROID))
    )
    test = "" if esim.is_live else f"<p><strong>{_TEST}</strong></p>"
    network = (
        f"<h2 style='font-size:1em'>From the network</h2><p>{escape(esim.instructions)}</p>"
        if esim.instructions
        else ""
    )
    picture = (
        "<p>Or scan this with the phone's camera, from another screen:</p>"
        f'<p><img src="cid:qr" alt="QR code of {escape(code.lpa)}" style="max-width:100%;background:#fff"></p>'
        if has_picture
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark"></head>'
        '<body style="font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:auto;padding:1em">'
        f"<p>Hello {escape(name)},</p><p>your eSIM is ready: <strong>{escape(plan_name)}</strong>.</p>{test}"
        f"<p>{taps}</p>{picture}"
        f"<dl>{rows}</dl>{steps}{network}"
        "<p>Install it while you have Wi-Fi. An eSIM can be installed once: do not delete it from the phone.</p>"
        "</body></html>"
    )
