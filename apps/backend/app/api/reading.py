"""Pages for people: the API's documentation, and what each problem type means."""

from html import escape
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from app.errors import NotFound, TribiError, problem_types

router = APIRouter(include_in_schema=False)

_SWAGGER = files("fastapi_offline") / "static"
_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_DOCS_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_PAGE_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

_DOCS = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Tribi API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css"></head>
<body><div id="docs"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script><script src="/api/docs/start.js"></script></body>
</html>"""
_START = """SwaggerUIBundle({
  url: "/api/openapi.json", dom_id: "#docs", deepLinking: true, persistAuthorization: false,
  validatorUrl: null  // else a badge would ask a stranger about our document
})
"""

_STYLE = """
:root { color-scheme: light dark; font: 17px/1.55 system-ui, sans-serif }
body { max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
h1 { line-height: 1.2 } code { font-size: .95em } dt { margin-top: 1rem } a { color: inherit }
"""


@router.get("/api/docs")
async def docs() -> Response:
    return HTMLResponse(_DOCS, headers={"Content-Security-Policy": _DOCS_CSP})


@router.get("/api/docs/start.js")
async def start() -> Response:
    return Response(_START, media_type="text/javascript")


@router.get("/api/docs/{name}")
async def asset(name: str) -> Response:
    if name not in _ASSETS:
        raise NotFound
    data = (_SWAGGER / name).read_bytes()
    return Response(data, media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})


@router.get("/problems")
@router.get("/problems/")
async def problems() -> Response:
    entries = "".join(
        f'<dt><a href="/problems/{code}"><code>{code}</code></a></dt><dd>{escape(kind.title)}</dd>'
        for code, kind in problem_types().items()
    )
    return _page("Problem types", f"<p>What Tribi's error replies (RFC 9457) mean.</p><dl>{entries}</dl>")


@router.get("/problems/{code}")
async def problem(code: str) -> Response:
    kind = problem_types().get(code)
    if kind is None:
        raise NotFound
    return _page(kind.title, _explained(kind))


def _explained(kind: type[TribiError]) -> str:
    again = "yes" if kind.retryable else "no, not unchanged"
    return (
        f"<p><code>{kind.code}</code></p><p>{escape(kind.meaning)}</p>"
        f"<dl><dt>HTTP status</dt><dd>{kind.http_status}</dd><dt>May the same request be sent again?</dt><dd>{again}</dd></dl>"
        '<p><a href="/problems/">All problem types</a> · <a href="/api/docs">API documentation</a></p>'
    )


def _page(title: str, body: str) -> Response:
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)} · Tribi</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": _PAGE_CSP})
