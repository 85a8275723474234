"""Quantities: Kubernetes' fixed-point numbers with SI, binary or exponent suffixes ("100m", "1.5Gi", "2e3").

Amounts are exact Decimals. Every function also accepts a resource.Quantity message; text that is no quantity raises
ValueError in Kubernetes' words.
"""

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from functools import lru_cache
from typing import Final, Literal

from tillerman.pb.k8s import resource_pb2

Style = Literal["DecimalSI", "BinarySI", "DecimalExponent"]
QuantityLike = str | int | float | resource_pb2.Quantity

_SHAPE: Final = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?([eEinumkKMGTP]*[-+]?\d*)", re.ASCII)
BAD_SHAPE: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
BAD_SUFFIX: Final = "unable to parse quantity's suffix"
BAD_NUMBER: Final = "unable to parse numeric part of quantity"

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_OF: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_OF: Final = {0: "", **{exponent: suffix for suffix, exponent in _BINARY.items()}}
_NANO: Final = Decimal("1e-9")
_MAX: Final = Decimal(2**63 - 1)
_EXACT: Final = Context(prec=200)


def parse_quantity(quantity: QuantityLike) -> Decimal:
    """The exact amount, rounded up (away from zero) to whole nano units."""
    return _parse(_text(quantity))[0]


def value(quantity: QuantityLike) -> int:
    """The amount in whole units, rounded up: bytes for memory, cores for CPU."""
    return int(parse_quantity(quantity).to_integral_value(ROUND_CEILING))


def milli_value(quantity: QuantityLike) -> int:
    """The amount in thousandths, rounded up: millicores for CPU."""
    return int((parse_quantity(quantity) * 1000).to_integral_value(ROUND_CEILING))


def canonical(quantity: QuantityLike) -> str:
    """The one spelling that Kubernetes stores: no fraction, the largest suffix that keeps the amount exact."""
    return _canonical(_text(quantity))


def stored(quantity: QuantityLike) -> str:
    """What Kubernetes keeps of a quantity it was sent: canonical(), except that text which already has the canonical
    number and suffix stays as it was written (`+3`, `3.` and `1E3` are kept; `1000m`, `1.5` and `2000` are not)."""
    text = _text(quantity)
    spelled = _canonical(text)
    match = _SHAPE.fullmatch(text)
    if match is not None and not match[3]:
        written = f"{'-' if match[1] == '-' else ''}{match[2]}{match[4]}"
        if written == spelled or (match[4][:1] == "E" and written.replace("E", "e") == spelled):
            return text
    return spelled


def style_of(quantity: QuantityLike) -> Style:
    return _parse(_text(quantity))[1]


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    return format_quantity(*_parse(text))


def format_quantity(amount: Decimal | int, style: Style = "DecimalSI") -> str:
    """Spells an amount canonically. Binary falls back to decimal for fractions and amounts below 1024."""
    amount = Decimal(amount)
    if not amount:
        return "0"
    if style == "BinarySI" and (abs(amount) < 1024 or amount != amount.to_integral_value()):
        style = "DecimalSI"
    if style == "BinarySI":
        number, exponent = int(amount), 0
        while number % 1024 == 0 and exponent < 60:
            number //= 1024
            exponent += 10
        return f"{number}{_BINARY_OF[exponent]}"
    sign, digits, power = amount.normalize(_EXACT).as_tuple()
    mantissa = int("".join(map(str, digits)))
    exponent = int(power)
    while exponent % 3 or (style == "DecimalSI" and exponent > 18):
        mantissa *= 10
        exponent -= 1
    spelled = f"{'-' if sign else ''}{mantissa}"
    if style == "DecimalSI":
        return spelled + _DECIMAL_OF[exponent]
    return f"{spelled}e{exponent}" if exponent else spelled


def _text(quantity: QuantityLike) -> str:
    if isinstance(quantity, str):
        return quantity
    if isinstance(quantity, resource_pb2.Quantity):
        return quantity.string or "0"
    return number_text(quantity)


def number_text(number: int | float) -> str:
    """A JSON number as the text a quantity is parsed from: no exponent notation, so 1e-05 reads 0.00001."""
    if isinstance(number, bool) or number != number or number in (float("inf"), float("-inf")):
        raise ValueError(BAD_SHAPE)
    return str(number) if isinstance(number, int) else format(Decimal(repr(number)), "f")


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Decimal, Style]:
    if not text:
        raise ValueError(BAD_SHAPE)
    match = _SHAPE.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise ValueError(BAD_SHAPE)
    sign, whole, fraction, suffix = match[1], match[2] or "0", match[3] or "", match[4]
    style, base, exponent = _suffix(suffix)
    with localcontext(_EXACT):
        amount = Decimal(f"{whole}.{fraction or '0'}")
        amount = amount * (2**exponent) if base == 2 else amount.scaleb(exponent)
        short = base == 10 and len(whole.lstrip("0")) + len(fraction) <= 18
        if amount and not (short and exponent - len(fraction) >= -9):
            # Kubernetes keeps nothing smaller than nano, rounds up, and caps what does not fit in 64 bits.
            amount = amount.quantize(_NANO, rounding=ROUND_CEILING) if amount < _MAX else _MAX
        return (-amount if sign == "-" else amount), style


def _suffix(suffix: str) -> tuple[Style, int, int]:
    if suffix in _DECIMAL:
        return "DecimalSI", 10, _DECIMAL[suffix]
    if suffix in _BINARY:
        return "BinarySI", 2, _BINARY[suffix]
    if suffix[0] in "eE" and re.fullmatch(r"[-+]?\d+", suffix[1:]):
        exponent = int(suffix[1:])
        if abs(exponent) > 100:
            raise ValueError(BAD_NUMBER)
        return "DecimalExponent", 10, exponent
    raise ValueError(BAD_SUFFIX)


def floor_value(quantity: QuantityLike) -> int:
    """The amount in whole units, rounded down."""
    return int(parse_quantity(quantity).to_integral_value(ROUND_FLOOR))


def add(left: QuantityLike, right: QuantityLike) -> str:
    """The sum, spelled in the left one's style (the right one's when left is zero)."""
    amount, style = _parse(_text(left))
    other, other_style = _parse(_text(right))
    return format_quantity(amount + other, style if amount else other_style)
