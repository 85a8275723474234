"""matchConditions of webhooks: CEL expressions over the request, which all have to be true for it to be sent.

The library is loaded when the first condition is met: most clusters have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from services.apiserver.crd.expressions import ExpressionError, environment, evaluated, plain

if TYPE_CHECKING:
    from cel_expr_python.cel import Env, Expression

VARIABLES = ("object", "oldObject", "request")


class ConditionError(ValueError):
    """A condition came to no answer. The text says which and why."""


def fault(expression: str) -> str | None:
    """Why a condition cannot be used; None for one that can."""
    try:
        returns = str(_compiled(expression).return_type().name())
    except ExpressionError as error:
        return str(error)
    return None if returns in ("BOOL", "DYN") else "must evaluate to bool"


def hold(conditions: Iterable[str], request: Mapping[str, Any]) -> bool:
    """Whether all conditions hold for an AdmissionReview's request.

    One that is false decides, whatever became of the others. Raises ConditionError where none is false and some failed.
    """
    data = {"object": request["object"], "oldObject": request["oldObject"], "request": request}
    failures = []
    for expression in conditions:
        try:
            if _value(expression, data) is False:
                return False
        except ExpressionError as error:
            failures.append(f"expression '{expression}' resulted in error: {error}")
    if failures:
        raise ConditionError(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
    return True


def _value(expression: str, data: dict[str, Any]) -> bool:
    value = evaluated(_compiled(expression), data)
    if not isinstance(value, bool):
        raise ExpressionError("must evaluate to bool")
    return value


@cache
def _compiled(expression: str) -> Expression:
    try:
        return _environment().compile(expression)
    except (RuntimeError, ValueError) as error:
        raise ExpressionError(f"compilation failed: {plain(str(error))}") from error


@cache
def _environment() -> Env:
    from cel_expr_python.cel import Type

    return environment(dict.fromkeys(VARIABLES, Type.DYN))
