"""What the catalogue's file may look like, and every way in which it is refused."""

import time

import pytest

from app.csv_table import MAX_BYTES, CsvRefused
from app.services.catalogue.csv_file import MAX_PLANS, write_catalogue
from app.services.catalogue.rows import CatalogueFile, CatalogueRow, ProviderCode
from tests.services.catalogue.files import HEADER, PROVIDERS, a_file, a_line, many_lines, reading

SPAIN = CatalogueRow(
    "es-5gb", "Spain 5 GB", ("ES",), 5120, 30, 1290, "EUR", {"CONNECTED_YOU": ProviderCode("CY-ES-5GB", 640)}
)


def mistakes_of(data: bytes) -> tuple[str, ...]:
    with pytest.raises(CsvRefused) as refused:
        reading(data)
    return refused.value.mistakes


def test_a_plain_file_is_read() -> None:
    assert reading(a_file(a_line())) == CatalogueFile((SPAIN,), ("CONNECTED_YOU",), ("CONNECTED_YOU",))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_a_file_of_any_spreadsheet_is_read(mark: bytes, end: str, separator: str) -> None:
    text = a_file(a_line()).decode().replace(",", separator).replace("\n", end)
    assert reading(mark + text.encode()).rows == (SPAIN,)


@pytest.mark.parametrize(
    "data",
    [
        a_file(a_line()).rstrip(),
        b"\n" + a_file("", a_line(), "", "", "  ", ",,,,,,,,"),
        a_file(a_line(), header=HEADER.upper()),
        a_file(a_line().replace(",", " , ")),
        a_file(a_line(name='"Spain 5 GB"')),
        a_file(a_line(name='  "Spain 5 GB"  ')),
        a_file(a_line(connected_you_cost_minor='"640"  ')),
        a_file(a_line(name='"Spain\r\n 5 GB"')),
        a_file(a_line(country_iso2="es", currency="eur", data_mb="05120")),
        a_file(",".join(reversed(a_line().split(","))), header=",".join(reversed(HEADER.split(",")))),
    ],
    ids=[
        "no-last-line-end",
        "empty-lines",
        "header-in-capitals",
        "spaces",
        "quotes",
        "spaces-around-quotes",
        "spaces-after-last-quote",
        "line-break-in-quotes",
        "lower-case",
        "columns-in-other-order",
    ],
)
def test_the_same_plan_may_be_written_in_many_ways(data: bytes) -> None:
    assert reading(data).rows == (SPAIN,)


def test_separators_and_quotes_inside_quotes_are_the_names_own() -> None:
    row = reading(a_file(a_line(name='"Spain, ""Ibiza""; 5 GB"'))).rows[0]
    assert row.name == 'Spain, "Ibiza"; 5 GB'


def test_an_empty_plan_code_means_not_sold_there() -> None:
    row = reading(a_file(a_line(connected_you_plan_code="", connected_you_cost_minor=""))).rows[0]
    assert row.codes == {}


@pytest.mark.parametrize(
    "text",
    ["PT ES FR", "pt fr es", "PT|ES|FR", '"PT, ES, FR"', "PT/ES/FR", '"PT;ES;FR"', '"PT\nES\nFR"', " PT  ES | FR ;"],
)
def test_a_plan_for_several_countries_names_the_primary_one_first(text: str) -> None:
    assert reading(a_file(a_line(country_iso2=text))).rows[0].countries == ("PT", "ES", "FR")


def test_only_the_providers_with_columns_are_stated() -> None:
    file = reading(
        a_file("es-5gb,Spain,ES,1,1,0,EUR,O-1", header=",".join([*HEADER.split(",")[:7], "other_plan_code"]))
    )
    assert (file.providers, file.providers_with_cost) == (("OTHER",), ())
    assert file.rows[0].codes == {"OTHER": ProviderCode("O-1")}


def test_lines_are_counted_as_an_editor_does() -> None:
    broken_name = a_line(sku="es-1", name='"Spain\n5 GB\n30 days"')
    assert mistakes_of(a_file(broken_name, "", a_line(price_minor="-5"))) == (
        "line 6: price_minor: -5 must not be negative",
    )


CELLS: list[tuple[dict[str, str], str]] = [
    ({"sku": ""}, "sku: is missing"),
    (
        {"sku": "es 5gb"},
        "sku: 'es 5gb' cannot stand in a URL: take ASCII letters, digits, hyphens, dots and underscores",
    ),
    ({"sku": "es/5gb"}, "sku: es/5gb cannot stand in a URL: take ASCII letters, digits, hyphens, dots and underscores"),
    ({"sku": ".."}, "sku: .. cannot stand in a URL: take ASCII letters, digits, hyphens, dots and underscores"),
    ({"sku": "españa"}, "sku: españa cannot stand in a URL: take ASCII letters, digits, hyphens, dots and underscores"),
    ({"sku": "x" * 65}, f"sku: {'x' * 40}… is longer than 64 characters"),
    ({"name": ""}, "name: is missing"),
    ({"name": "x" * 201}, "name: is longer than 200 characters"),
    ({"name": "Spain\x07"}, "name: 'Spain\\x07' holds a character that cannot be printed"),
    ({"name": "Sp\u2028in"}, "name: 'Sp\\u2028in' holds a character that cannot be printed"),
    ({"country_iso2": ""}, "country_iso2: is missing"),
    ({"country_iso2": "XK"}, "country_iso2: XK is not a country code of ISO 3166-1 alpha-2, such as ES"),
    ({"country_iso2": "ESP"}, "country_iso2: ESP is not a country code of ISO 3166-1 alpha-2, such as ES"),
    ({"country_iso2": "|"}, "country_iso2: is missing"),
    ({"country_iso2": "ES PT ES"}, "country_iso2: ES is there twice"),
    ({"country_iso2": "ES PT FR pt"}, "country_iso2: PT is there twice"),
    ({"country_iso2": "ES EU"}, "country_iso2: EU is not a country code of ISO 3166-1 alpha-2, such as ES"),
    ({"country_iso2": "ESPT"}, "country_iso2: ESPT is not a country code of ISO 3166-1 alpha-2, such as ES"),
    ({"data_mb": ""}, "data_mb: is missing"),
    ({"data_mb": "0"}, "data_mb: 0 must be at least 1"),
    ({"data_mb": "5.5"}, "data_mb: 5.5 is not a whole number of megabytes: write digits only"),
    ({"data_mb": "\u0665"}, "data_mb: \u0665 is not a whole number of megabytes: write digits only"),
    ({"data_mb": "²"}, "data_mb: ² is not a whole number of megabytes: write digits only"),
    ({"data_mb": "1_000"}, "data_mb: 1_000 is not a whole number of megabytes: write digits only"),
    ({"data_mb": "1000000001"}, "data_mb: 1000000001 must be at most 1000000000"),
    ({"data_mb": "9" * 5000}, f"data_mb: {'9' * 40}… must be at most 1000000000"),
    ({"validity_days": "-1"}, "validity_days: -1 must not be negative"),
    ({"validity_days": "3651"}, "validity_days: 3651 must be at most 3650"),
    ({"validity_days": "30 days"}, "validity_days: '30 days' is not a whole number of days: write digits only"),
    ({"price_minor": ""}, "price_minor: is missing"),
    ({"price_minor": "-5"}, "price_minor: -5 must not be negative"),
    ({"price_minor": "-9.99"}, "price_minor: -9.99 must not be negative"),
    ({"price_minor": "9.99"}, "price_minor: 9.99 is not a whole number of minor units: write 999"),
    ({"price_minor": '"9,9"'}, "price_minor: 9,9 is not a whole number of minor units: write 990"),
    ({"price_minor": "0.05"}, "price_minor: 0.05 is not a whole number of minor units: write 5"),
    (
        {"price_minor": "1.290", "currency": "KWD"},
        "price_minor: 1.290 is not a whole number of minor units: write 1290",
    ),
    (
        {"price_minor": '"1,290"'},
        "price_minor: 1,290 is not a whole number of minor units: write it without separators",
    ),
    (
        {"price_minor": "9.99", "currency": "JPY"},
        "price_minor: 9.99 is not a whole number of minor units: write it without separators",
    ),
    ({"price_minor": "1 290"}, "price_minor: '1 290' is not a whole number of minor units: write digits only"),
    ({"price_minor": "1e3"}, "price_minor: 1e3 is not a whole number of minor units: write digits only"),
    ({"price_minor": "+5"}, "price_minor: +5 is not a whole number of minor units: write digits only"),
    ({"price_minor": "1000000000001"}, "price_minor: 1000000000001 must be at most 1000000000000"),
    ({"currency": ""}, "currency: is missing"),
    ({"currency": "EURO"}, "currency: EURO is not a currency of ISO 4217 that prices are in, such as EUR"),
    ({"currency": "XAU"}, "currency: XAU is not a currency of ISO 4217 that prices are in, such as EUR"),
    ({"connected_you_plan_code": "x" * 129}, "connected_you_plan_code: is longer than 128 characters"),
    (
        {"connected_you_plan_code": "CY\x1b[2J"},
        "connected_you_plan_code: 'CY\\x1b[2J' holds a character that cannot be printed",
    ),
    ({"connected_you_cost_minor": "-1"}, "connected_you_cost_minor: -1 must not be negative"),
    (
        {"connected_you_cost_minor": "6.4"},
        "connected_you_cost_minor: 6.4 is not a whole number of minor units: write 640",
    ),
    (
        {"connected_you_plan_code": ""},
        "connected_you_cost_minor: a cost needs a plan code in connected_you_plan_code",
    ),
]


@pytest.mark.parametrize(("cells", "mistake"), CELLS, ids=[f"{next(iter(c))}-{n}" for n, (c, _) in enumerate(CELLS)])
def test_a_cell_that_cannot_be_is_named_with_its_line_and_column(cells: dict[str, str], mistake: str) -> None:
    assert mistakes_of(a_file(a_line(sku="first"), a_line(**cells))) == (f"line 3: {mistake}",)


@pytest.mark.parametrize(
    "cells",
    [
        {"sku": "A.b_c~1-(x)'*!$&+=:@"},
        {"data_mb": "1000000000", "validity_days": "3650", "price_minor": "1000000000000"},
        {"price_minor": "0"},
        {"name": "日本 10 GB \U0001f1ef\U0001f1f5", "country_iso2": "JP"},
        {"connected_you_plan_code": "CY/ES 5GB"},
    ],
)
def test_unusual_but_right_cells_are_taken(cells: dict[str, str]) -> None:
    assert len(reading(a_file(a_line(**cells))).rows) == 1


@pytest.mark.parametrize(
    ("data", "mistakes"),
    [
        (b"", ["the file is empty"]),
        (b"\xef\xbb\xbf", ["the file is empty"]),
        (b"\r\n \r\n", ["the file is empty"]),
        (a_file(), ["the file holds a header but no plan: there is nothing to import"]),
        (a_file().decode().encode("utf-16"), ["the file is UTF-16: save it as CSV in UTF-8"]),
        (
            a_file(a_line(), a_line(sku="b", name="Espa\udcf1a")[:0] or "x").replace(
                b"x", b"b,Espa\xf1a,ES,1,1,1,EUR,,"
            ),
            ["line 3: is not UTF-8: save the file as CSV in UTF-8"],
        ),
        (a_file(a_line(name="Sp\0in")), ["line 2: holds a NUL character"]),
        (
            a_file("a,b", a_line() + ",x"),
            [
                "line 2: 2 fields where the header has 9 (a field that holds a separator needs quotes)",
                "line 3: 10 fields where the header has 9 (a field that holds a separator needs quotes)",
            ],
        ),
        (a_file(a_line(), a_line(sku="b"), a_line()), ["line 4: sku: es-5gb stands on line 2 already"]),
        (
            a_file(a_line(name='"Spain')),
            ["line 2: a quoted field begins here and does not end: a quote is missing"],
        ),
        (
            a_file(a_line(name='"Spain" 5 GB'), a_line(price_minor="x")),
            [
                'line 2: a quoted field goes on behind its closing quote: write a quote inside a field twice, ""',
                "line 3: price_minor: x is not a whole number of minor units: write digits only",
            ],
        ),
        (
            a_file(a_line(price_minor="-5", currency="EURO")),
            [
                "line 2: price_minor: -5 must not be negative; currency: EURO is not a currency of ISO 4217 that prices "
                "are in, such as EUR"
            ],
        ),
    ],
    ids=[
        "empty",
        "only-a-mark",
        "only-line-ends",
        "only-a-header",
        "UTF-16",
        "latin-1",
        "NUL",
        "number-of-fields",
        "twice",
        "quote-left-open",
        "quote-inside",
        "two-in-a-line",
    ],
)
def test_a_file_that_cannot_be_is_refused_with_every_bad_line(data: bytes, mistakes: list[str]) -> None:
    assert list(mistakes_of(data)) == mistakes


@pytest.mark.parametrize(
    ("header", "mistake"),
    [
        (HEADER.replace("price_minor,", "price,", 1), "line 1: price is not a column"),
        (HEADER.replace("currency,", ""), "line 1: the column currency is missing"),
        (HEADER + ",sku", "line 1: the column sku is there twice"),
        (HEADER + ",", "line 1: column 10 has no name"),
        (HEADER + ",elsewhere_plan_code", "line 1: elsewhere_plan_code is not a column"),
        (
            HEADER.replace("connected_you_plan_code,", ""),
            "line 1: the column connected_you_cost_minor needs connected_you_plan_code",
        ),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_the_columns_that_there_are(header: str, mistake: str) -> None:
    mistakes = mistakes_of(a_file(a_line(), header=header))
    assert mistake in mistakes
    assert mistakes[-1].startswith(f"the columns are: {HEADER}")


def test_a_quote_left_open_is_named_where_it_opens() -> None:
    mistakes = mistakes_of(a_file(a_line(), a_line(sku="bad", name='"Spain'), *many_lines(20_000)))
    assert mistakes[0] == "line 3: a quoted field begins here and does not end: a quote is missing"


def test_fifty_thousand_plans_are_read_whole() -> None:
    began = time.monotonic()
    assert len(reading(a_file(*many_lines(50_000))).rows) == 50_000
    assert time.monotonic() - began < 15


def test_one_bad_line_of_fifty_thousand_refuses_all() -> None:
    lines = many_lines(50_000)
    lines[31_415] = a_line(price_minor="-5")
    assert mistakes_of(a_file(*lines)) == ("line 31417: price_minor: -5 must not be negative",)


def test_all_bad_lines_are_known_and_fifty_are_printed() -> None:
    with pytest.raises(CsvRefused) as refused:
        reading(a_file(*(a_line(sku=f"es-{n}", price_minor="-5") for n in range(60))))
    assert len(refused.value.mistakes) == 60
    assert str(refused.value).splitlines()[-2:] == ["line 51: price_minor: -5 must not be negative", "and 10 more"]


def test_more_plans_than_the_limit_are_refused() -> None:
    lines = [f"s{n},S,ES,1,1,1,EUR,," for n in range(MAX_PLANS + 1)]
    assert mistakes_of(a_file(*lines)) == (
        f"the file has more than {MAX_PLANS} plans: import it in parts, without --replace",
    )


def test_a_file_beyond_the_limit_of_bytes_is_refused_unread() -> None:
    assert mistakes_of(b"x" * (MAX_BYTES + 1)) == ("the file is larger than 64 MiB",)


def test_what_is_written_is_read_as_the_same_rows() -> None:
    rows = (SPAIN, CatalogueRow("x", 'a "b", c; d', ("JP",), 1, 1, 0, "JPY", {"OTHER": ProviderCode("=1+1")}))
    assert reading(write_catalogue(rows, PROVIDERS).encode()).rows == rows
