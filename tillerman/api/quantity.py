"""Kubernetes' quantities: "100m", "1.5Gi", "2e3". Exact decimal arithmetic; no floats."""

import re
from decimal import ROUND_CEILING, Decimal, localcontext
from functools import lru_cache

from tillerman.pb.k8s import resource_pb2 as resource

PATTERN = re.compile(r"^([+-]?)(\d+(?:\.\d*)?|\.\d+)((?:[eE][+-]?\d+)|[KMGTPE]i|[numkMGTPE]|)$")
BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
DECIMAL_NAMES = {exponent: suffix for suffix, exponent in DECIMAL.items()}
REFUSAL = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"

BINARY_SI, DECIMAL_SI, DECIMAL_EXPONENT = "BinarySI", "DecimalSI", "DecimalExponent"

Text = str | resource.Quantity


def text_of(quantity: Text) -> str:
    return quantity if isinstance(quantity, str) else quantity.string


@lru_cache(maxsize=4096)
def parsed(text: str) -> tuple[Decimal, str]:
    """The amount and its style. Raises ValueError."""
    match = PATTERN.match(text)
    if not match:
        raise ValueError(REFUSAL)
    sign, digits, suffix = match.groups()
    with localcontext() as context:
        context.prec = 60
        number = Decimal(sign + digits)
        if suffix in BINARY:
            amount, style = number * 1024 ** BINARY[suffix], BINARY_SI
        elif suffix[:1] in ("e", "E") and len(suffix) > 1:
            if abs(int(suffix[1:])) > 64:
                raise ValueError(REFUSAL)
            amount, style = number.scaleb(int(suffix[1:])), DECIMAL_EXPONENT
        else:
            amount, style = number.scaleb(DECIMAL[suffix]), DECIMAL_SI
        # Nothing finer than a nano; Kubernetes rounds up, away from zero.
        nano = amount.scaleb(9)
        if nano != nano.to_integral_value():
            rounded = nano.copy_abs().to_integral_value(rounding=ROUND_CEILING)
            amount = rounded.copy_sign(amount).scaleb(-9)
    return amount, style


def parse_quantity(quantity: Text) -> Decimal:
    """The exact amount. Raises ValueError with Kubernetes' text."""
    return parsed(text_of(quantity))[0]


def value(quantity: Text) -> int:
    """Whole units, rounded up. An empty message counts as zero."""
    text = text_of(quantity)
    return int(parsed(text)[0].to_integral_value(rounding=ROUND_CEILING)) if text else 0


def milli_value(quantity: Text) -> int:
    """Thousandths, rounded up."""
    text = text_of(quantity)
    return int((parsed(text)[0] * 1000).to_integral_value(rounding=ROUND_CEILING)) if text else 0


def canonical(quantity: Text) -> str:
    """The one spelling Kubernetes stores: "0.5" -> "500m", "1024Mi" -> "1Gi". Raises ValueError."""
    amount, style = parsed(text_of(quantity))
    return format_quantity(amount, style)


def format_quantity(amount: Decimal | int, style: str = DECIMAL_SI) -> str:
    """The canonical spelling: the largest suffix that leaves a whole number."""
    amount = Decimal(amount)
    if amount == 0:
        return "0"
    with localcontext() as context:
        context.prec = 60
        if style == BINARY_SI and abs(amount) >= 1024 and amount == amount.to_integral_value():
            whole, power = int(amount), 0
            while whole % 1024 == 0 and power < 6:
                whole, power = whole // 1024, power + 1
            return f"{whole}{'' if power == 0 else 'KMGTPE'[power - 1] + 'i'}"
        exponent = -9
        whole = int(amount.scaleb(9))
        while whole % 1000 == 0 and exponent < 18:
            whole, exponent = whole // 1000, exponent + 3
        if style == DECIMAL_EXPONENT:
            return f"{whole}e{exponent}" if exponent else str(whole)
        return f"{whole}{DECIMAL_NAMES[exponent]}"
