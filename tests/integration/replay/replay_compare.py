"""When an answer is as recorded: every recorded field is there with the recorded value; others may be there too.

Amounts and times are compared by what they mean, "<any>" matches anything that is there, what the API server writes
for nothing (null) may be missing.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from golden import ANY

from tillerman.api.quantity import parse_quantity

# Maps whose values are amounts, and fields that hold one.
AMOUNTS = frozenset(
    {"limits", "requests", "capacity", "allocatable", "hard", "used", "min", "max", "default", "defaultRequest"}
    | {"maxLimitRequestRatio", "overhead", "podFixed"}
)
AMOUNT = frozenset(["sizeLimit", "divisor", "averageValue", "value", "minAvailable", "storage", "cpu", "memory"])


def differences(recorded: Any, got: Any, path: str = "") -> list[str]:
    """One line per recorded field that differs."""
    if recorded == ANY and got is not None:
        return []
    if isinstance(recorded, dict) and isinstance(got, dict):
        found = []
        for name, value in recorded.items():
            if name in got:
                found += differences(value, got[name], f"{path}.{name}")
            elif value is not None:
                found.append(f"{path}.{name}: missing, recorded {shown(value)}")
        return found
    if isinstance(recorded, list) and isinstance(got, list):
        return _of_lists(recorded, got, path)
    if isinstance(recorded, bool) == isinstance(got, bool) and recorded == got:
        return []
    if isinstance(recorded, str) and isinstance(got, str) and _same_text(recorded, got, path):
        return []
    return [f"{path or '.'}: {shown(got)}, recorded {shown(recorded)}"]


def _of_lists(recorded: list[Any], got: list[Any], path: str) -> list[str]:
    if path.endswith(".managedFields"):
        recorded, got = sorted(recorded, key=_manager), sorted(got, key=_manager)
    if path.endswith((".volumes", ".volumeMounts")):
        # The recording server ran without the admission plugin that mounts an account's token.
        got = [item for item in got if not _of_account(item)]
    if len(recorded) != len(got):
        return [f"{path}: {shown(got)}, recorded {shown(recorded)}"]
    return [
        line for i, (a, b) in enumerate(zip(recorded, got, strict=True)) for line in differences(a, b, f"{path}[{i}]")
    ]


def _manager(entry: dict[str, Any]) -> list[str]:
    return [str(entry.get(name)) for name in ("manager", "operation", "apiVersion", "subresource")]


def _of_account(item: Any) -> bool:
    return isinstance(item, dict) and str(item.get("name")).startswith("kube-api-access-")


def _same_text(recorded: str, got: str, path: str) -> bool:
    if same_words(recorded, got) or (_moment(recorded) is not None and _moment(recorded) == _moment(got)):
        return True
    parent, _, name = path.rpartition(".")
    if name not in AMOUNT and parent.rpartition(".")[2] not in AMOUNTS:
        return False
    amount = _amount(recorded)
    return amount is not None and amount == _amount(got)


def same_words(recorded: str, got: str) -> bool:
    """Equal but for the parts that are recorded as "<any>"."""
    if ANY not in recorded:
        return recorded == got
    return re.fullmatch("(?s:.*?)".join(map(re.escape, recorded.split(ANY))), got) is not None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if re.match(r"\d{4}-\d\d-\d\dT", text) else None
    except ValueError:
        return None


def _amount(text: str) -> Decimal | None:
    try:
        return parse_quantity(text)
    except ValueError:
        return None


def refused(recorded: Any, got: Any) -> list[str]:
    """How a refusal's reason or its causes (field and reason of each) differ; the words may differ."""
    (reason, causes), (reason_got, causes_got) = _refusal(recorded), _refusal(got)
    found = [] if reason == reason_got else [f"reason {reason_got}, recorded {reason}"]
    same = len(causes) == len(causes_got) and all(
        any(why == why_got and same_words(field, field_got) for field_got, why_got in causes_got)
        for field, why in causes
    )
    return found if same else [*found, f"causes {shown(causes_got)}, recorded {shown(causes)}"]


def _refusal(status: Any) -> tuple[Any, list[tuple[str, str]]]:
    content = status if isinstance(status, dict) else {}
    causes = (content.get("details") or {}).get("causes") or []
    return content.get("reason"), sorted({(c.get("field", ""), c.get("reason", "")) for c in causes})


def judged(code: int, recorded: Any, got_code: int, got: Any) -> list[str]:
    """An answer against the recorded one. Where 1.20 failed with 500, telling what is wrong is right."""
    if code == 500 and 400 <= got_code < 500:
        return []
    if code != got_code:
        return [f"code {got_code} ({message(got)[:160]}), recorded {code}"]
    if code < 400:
        return differences(recorded, got)
    return refused(recorded, got) if isinstance(recorded, dict) else []


def message(answer: Any) -> str:
    return str(answer.get("message", "")) if isinstance(answer, dict) else str(answer)


def shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:120]
