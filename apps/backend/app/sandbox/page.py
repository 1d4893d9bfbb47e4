"""The sandbox's one page: the ledger, a form that sends webhooks, the plan codes that misbehave. No script."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape

from app.sandbox.behaviours import ONCE, TABLE
from app.sandbox.events import EVENT_TYPES, PRODUCT_STATES, PROFILE_STATES
from app.sandbox.ledger import Entry, Ledger
from app.sandbox.webhooks import Delivery, Webhooks

_SHOWN = 100
"""The newest rows of each table; all of them are in the JSON."""

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --bad: #c62828; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top; }
code { font: 13px ui-monospace, monospace; } td code { white-space: nowrap; }
.bad { color: var(--bad); font-weight: 600; }
form { display: flex; flex-wrap: wrap; gap: .6rem; align-items: end; }
label { display: grid; font-size: .85rem; } label.wide { flex: 1 1 22rem; }
input, select, button { font: inherit; padding: .3rem .5rem; min-width: 0; }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none, browsers send no Origin with the forms
    "Cache-Control": "no-store",
}


def page(ledger: Ledger, webhooks: Webhooks, ledger_is_kept: str) -> str:
    counted = ledger.shape()
    repeats = counted["repeated_purchases"]
    is_bad = ' class="bad"' if repeats else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ConnectedYou sandbox</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>ConnectedYou sandbox</h1>
<p>A stand-in that comes with Tribi: nothing here costs money, and no eSIM of it can be installed. {escape(ledger_is_kept)}</p>
<p>Requests: {counted["requests"]}. eSIMs issued and billed: {counted["esims"]}.
<span{is_bad}>Bought again under the same order reference: {repeats}.</span>
<a href="/">Look again</a> · <a href="/sandbox/ledger">the ledger as JSON</a></p>
<h2>Ledger</h2>
{_ledger_table(ledger.entries)}
<form method="post" action="/sandbox/forget"><button>Forget everything</button></form>
<h2>Send a webhook</h2>
{_form(ledger, webhooks)}
{_deliveries(webhooks.deliveries)}
<h2>Plan codes that misbehave</h2>
<p>All others are delivered at once. With <code>{ONCE}</code> behind it, only an order's first request meets it.</p>
{_table(("plan code", "what happens", "billed"), _behaviours())}
</body>
</html>
"""


def _table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """`rows`: HTML."""
    head = "".join(f"<th>{escape(column)}" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</thead><tbody>{body}</tbody></table></div>'


def _code(text: str | None) -> str:
    return f"<code>{escape(text)}</code>" if text else ""


def _ledger_table(entries: Sequence[Entry]) -> str:
    if not entries:
        return "<p>Nothing was ordered yet.</p>"
    columns = ("#", "at (UTC)", "order reference", "plan code", "answered", "eSIM")
    rows = (
        (str(e.number), escape(e.at[11:23]), _code(e.order_reference), _code(e.plan_code), escape(e.answer), _esim(e))
        for e in reversed(entries[-_SHOWN:])
    )
    more = f"<p>And {len(entries) - _SHOWN} older ones.</p>" if len(entries) > _SHOWN else ""
    return _table(columns, rows) + more


def _esim(entry: Entry) -> str:
    if entry.esim is None:
        return "none issued"
    shown = f"{_code(entry.esim.iccid)}<br>{_code(entry.esim.activation_code)}"
    if entry.is_billed and entry.is_repeat:
        return f'<span class="bad">bought again</span><br>{shown}'
    return shown if entry.is_billed else f"the one bought before<br>{shown}"


def _options(values: Iterable[str], chosen: str = "") -> str:
    return "".join(f"<option{' selected' if value == chosen else ''}>{escape(value)}" for value in values)


def _form(ledger: Ledger, webhooks: Webhooks) -> str:
    bought = [entry for entry in ledger.entries if entry.is_billed and entry.esim is not None][-_SHOWN:]
    esims = "".join(
        f'<option value="{escape(e.esim.iccid)}">{escape(f"{e.order_reference}: {e.esim.iccid}")}'
        for e in reversed(bought)
        if e.esim
    )
    if not esims:
        return "<p>There is no eSIM yet that an event could be about.</p>"
    return f"""<form method="post" action="/sandbox/webhooks">
<label>eSIM<select name="iccid">{esims}</select></label>
<label>event<select name="event_type">{_options(EVENT_TYPES)}</select></label>
<label>% used (usage)<input name="percentage_consumed" value="51.27" size="6"></label>
<label>status (profile)<select name="status">{_options(PROFILE_STATES, "INSTALLED")}</select></label>
<label>status (product)<select name="product_status">{_options(PRODUCT_STATES)}</select></label>
<label>times<input name="times" value="1" size="3"></label>
<label class="wide">to<input name="url" type="url" required value="{escape(webhooks.target.url or "")}"></label>
<button>Send</button>
</form>
<p>The header <code>{escape(webhooks.target.header)}</code> carries the secret.</p>"""


def _deliveries(deliveries: Sequence[Delivery]) -> str:
    if not deliveries:
        return ""
    rows = (
        (
            escape(d.at[11:23]),
            _code(str(d.event["event_type"])),
            _code(str(d.event["iccid"])),
            _code(d.url),
            str(d.status) if d.is_taken else f'<span class="bad">{escape(str(d.status or d.error))}</span>',
        )
        for d in reversed(list(deliveries)[-_SHOWN:])
    )
    return _table(("at (UTC)", "event", "ICCID", "to", "answer"), rows)


def _behaviours() -> Iterable[Sequence[str]]:
    return ((_code(b.usage), escape(b.does), "yes" if b.is_issued else "no") for b in TABLE.values())
