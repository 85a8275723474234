"""Quantities: exact amounts, rounding, the canonical spelling."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillerman.api import quantity
from tillerman.pb.k8s.resource_pb2 import Quantity


@pytest.mark.parametrize(
    ("text", "amount", "canonical"),
    [
        ("0", 0, "0"),
        ("0Mi", 0, "0"),
        ("-0", 0, "0"),
        ("100m", Decimal("0.1"), "100m"),
        ("0.5", Decimal("0.5"), "500m"),
        (".25", Decimal("0.25"), "250m"),
        ("1.5", Decimal("1.5"), "1500m"),
        ("1000m", 1, "1"),
        ("+3", 3, "3"),
        ("3.", 3, "3"),
        ("2000", 2000, "2k"),
        ("1500", 1500, "1500"),
        ("1000000000000", 10**12, "1T"),
        ("1125899906842624", 2**50, "1125899906842624"),
        ("1024Mi", 2**30, "1Gi"),
        ("1.5Gi", 3 * 2**29, "1536Mi"),
        ("1.1Gi", Decimal("1181116006.4"), "1181116006400m"),
        ("0.5Ki", 512, "512"),
        ("7E", 7 * 10**18, "7E"),
        ("1E3", 1000, "1e3"),
        ("2e9", 2 * 10**9, "2e9"),
        ("12e5", 1200000, "1200e3"),
        ("0.0015k", Decimal("1.5"), "1500m"),
        ("123456789n", Decimal("0.123456789"), "123456789n"),
        ("0.1n", Decimal("1e-9"), "1n"),
        ("-1.5Gi", -3 * 2**29, "-1536Mi"),
        ("9223372036854775808", 2**63 - 1, "9223372036854775807"),
    ],
)
def test_amount_and_canonical_form(text: str, amount: Decimal | int, canonical: str) -> None:
    assert quantity.parse_quantity(text) == amount
    assert quantity.canonical(text) == canonical
    assert quantity.parse_quantity(canonical) == amount


@pytest.mark.parametrize("text", ["", "abc", "1.2.3", "1 Gi", "1gi", "Gi", "1Kii", "--1", "1e", "0x10", "1_000", "١"])
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantit"):
        quantity.parse_quantity(text)


def test_rounding_is_up() -> None:
    assert quantity.value("100m") == 1
    assert quantity.value("-1500m") == -1
    assert quantity.milli_value("1500u") == 2
    assert quantity.floor_value("1999m") == 1


def test_messages_and_numbers_are_accepted() -> None:
    assert quantity.milli_value(Quantity(string="250m")) == 250
    assert quantity.value(Quantity()) == 0
    assert quantity.canonical(0.0001) == "100u"
    assert quantity.canonical(1e-05) == "10u"


def test_what_is_stored_keeps_text_that_is_as_good_as_canonical() -> None:
    assert [quantity.stored(t) for t in ("+3", "3.", "1E3", "1000m", "1.5", "2000", "5Gi")] == [
        "+3",
        "3.",
        "1E3",
        "1",
        "1500m",
        "2k",
        "5Gi",
    ]


def test_sums_keep_their_style() -> None:
    assert quantity.add("64Mi", "64Mi") == "128Mi"
    assert quantity.add("0", "1Gi") == "1Gi"
    assert quantity.add("900m", "100m") == "1"


@given(st.decimals(-(10**15), 10**15, places=3), st.sampled_from(["DecimalSI", "BinarySI", "DecimalExponent"]))
def test_formatting_loses_nothing(amount: Decimal, style: quantity.Style) -> None:
    text = quantity.format_quantity(amount, style)
    assert quantity.parse_quantity(text) == amount
    if style != "DecimalExponent":
        assert quantity.canonical(text) == text
