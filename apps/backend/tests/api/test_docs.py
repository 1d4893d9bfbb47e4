"""/api/docs and /api/openapi.json, and the copy of the document in `contracts/`."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.errors import problem_types
from tests.api.contract import CONTRACT, REGENERATE, as_text
from tests.api.serving import PROBLEM, Shop

LINK = re.compile(r"""(?:src|href)=["']([^"']+)""")
FOREIGN = re.compile(r"https?:|(?<![:\w])//\w")
Operations = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> Operations:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def test_the_documentation_comes_from_this_server_alone(shop: Shop) -> None:
    page = await shop.get("/api/docs", anonymous=True)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert not FOREIGN.search(page.body.decode())
    links = LINK.findall(page.body.decode())
    assert len(links) == 3
    for link in links:
        asset = await shop.get(link, anonymous=True)
        assert asset.status == 200
        kind = "text/css" if link.endswith("css") else "text/javascript"
        assert asset.headers["Content-Type"].partition(";")[0] == kind
        assert asset.body
    start = (await shop.get("/api/docs/start.js", anonymous=True)).body.decode()
    assert not FOREIGN.search(start)
    assert '"/api/openapi.json"' in start
    assert "validatorUrl: null" in start  # Swagger UI's own asks a stranger about our document
    style = (await shop.get("/api/docs/swagger-ui.css", anonymous=True)).body.decode()
    assert not re.search(r"url\(['\"]?(?:https?:)?//", style)
    assert "@import" not in style


async def test_the_browser_is_told_to_fetch_nothing_from_elsewhere(shop: Shop) -> None:
    policy = (await shop.get("/api/docs", anonymous=True)).headers["Content-Security-Policy"]
    sources = {source for directive in policy.split(";") for source in directive.split()[1:]}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert "script-src 'self';" in policy


async def test_the_served_document_is_the_applications(shop: Shop, document: dict[str, Any]) -> None:
    reply = await shop.get("/api/openapi.json", anonymous=True)
    assert reply.status == 200
    assert reply.json() == document
    assert document["openapi"].startswith("3.1.")


def test_the_contract_is_the_applications(document: dict[str, Any]) -> None:
    assert CONTRACT.read_text(encoding="utf-8") == as_text(document), f"the API has changed: {REGENERATE}"


def test_the_document_names_no_server(document: dict[str, Any]) -> None:
    assert "servers" not in document
    assert not re.search(r"127\.0\.0\.1|localhost", json.dumps(document))


def test_every_operation_says_what_it_does(operations: Operations) -> None:
    assert [name for name, operation in operations if not operation.get("summary")] == []
    names = [operation["operationId"] for _, operation in operations]
    assert len(set(names)) == len(names)


def test_every_error_is_documented_as_a_problem(operations: Operations) -> None:
    for name, operation in operations:
        for status, response in operation["responses"].items():
            if int(status) < 400 or (name, status) == ("GET /readyz", "503"):
                continue
            assert response["content"][PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}, (name, status)
            for code, example in response["content"][PROBLEM]["examples"].items():
                assert code in problem_types()
                assert example["value"]["status"] == int(status)


def test_every_operation_that_needs_a_key_says_so_and_what_happens_without(operations: Operations) -> None:
    guarded = [(name, operation) for name, operation in operations if "security" in operation]
    assert len(guarded) == 18
    for name, operation in guarded:
        assert "401" in operation["responses"], name
        assert "503" in operation["responses"], name


def test_every_body_has_an_example_that_is_valid(document: dict[str, Any], operations: Operations) -> None:
    bodies = [operation["requestBody"] for _, operation in operations if "requestBody" in operation]
    assert len(bodies) == 7
    for body in bodies:
        [(media_type, content)] = body["content"].items()
        assert (media_type, body["required"]) == ("application/json", True)
        schema = content["schema"] | {"components": document["components"]}
        Draft202012Validator(schema).validate(content["example"])


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert used == set(document["components"]["schemas"])
