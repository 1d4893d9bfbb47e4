import pycountry
import pytest

from app.values import money
from app.values.money import MAX_MINOR, Money


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (1250, "EUR", "12.50 EUR"),
        (5, "EUR", "0.05 EUR"),
        (0, "USD", "0.00 USD"),
        (1250, "JPY", "1250 JPY"),
        (0, "JPY", "0 JPY"),
        (1250, "KWD", "1.250 KWD"),
        (7, "KWD", "0.007 KWD"),
        (12345, "CLF", "1.2345 CLF"),
    ],
)
def test_an_amount_is_written_with_the_decimals_of_its_currency(amount_minor: int, currency: str, text: str) -> None:
    assert str(Money(amount_minor, currency)) == text


@pytest.mark.parametrize("currency", ["eur", "EURO", "", "EU", "XXX", "XAU", "ZZZ", "EUR\n", "978"])
def test_what_is_no_currency_for_prices_is_refused(currency: str) -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        Money(1, currency)


@pytest.mark.parametrize("amount", [-1, MAX_MINOR + 1])
def test_an_amount_out_of_range_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="not negative"):
        Money(amount, "EUR")


@pytest.mark.parametrize("amount", [True, 12.5, "12", None])
def test_an_amount_that_is_no_whole_number_is_refused(amount: object) -> None:
    with pytest.raises(TypeError, match="whole number"):
        Money(amount, "EUR")  # type: ignore[arg-type]


def test_the_tables_name_currencies_of_the_standard_only() -> None:
    listed = {currency.alpha_3 for currency in pycountry.currencies}
    assert set(money._DECIMALS) | money._NOT_FOR_PRICES <= listed  # noqa: SLF001
