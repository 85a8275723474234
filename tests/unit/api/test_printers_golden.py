"""Table rows that a real kube-apiserver printed."""

from typing import Any

import pytest
from golden import recording, unmasked

from tillerman.api import codec, printers, times
from tillerman.api.scheme import SCHEME

# Read into today's message, which lacks what the beta version held.
UNREADABLE = ("endpointslice-full", "ingress-v1beta1")
# The row is of another object than the answer, or of a kind whose columns stand in its definition.
ELSEWHERE = ("/scale", "/token", "/binding", "/eviction", "/bindings", "/podsecuritypolicies")
CUSTOM = ("/ex.io/", "customresourcedefinitions")
AGES = {"Age", "Last Seen", "First Seen", "Duration", "Last Schedule", "Created At"}


def kind_of(answer: dict[str, Any]) -> tuple[str, str]:
    group, _, version = answer["apiVersion"].rpartition("/")
    if group == "autoscaling":
        return f"{group}/{'v2' if version.startswith('v2') else version}", answer["kind"]
    return f"{group}/v1" if group else "v1", answer["kind"]


PRINTED = [
    case
    for case in recording("creates")["cases"]
    if case.get("table")
    and case["name"] not in UNREADABLE
    and not case["path"].endswith(ELSEWHERE)
    and not any(custom in case["path"] for custom in CUSTOM)
]


@pytest.mark.parametrize("case", PRINTED, ids=[c["name"] for c in PRINTED])
def test_rows_are_those_of_a_real_apiserver(case: dict[str, Any]) -> None:
    names, expected = case["table"]["columns"], case["table"]["cells"]
    recorded = unmasked(case)
    answer = {**recorded, "apiVersion": kind_of(recorded)[0]}
    message = codec.from_dict(answer)
    created = times.to_seconds(message.metadata.creationTimestamp)  # type: ignore[attr-defined]
    columns = printers.columns_of(SCHEME.by_kind(*kind_of(recorded)))
    row = dict(zip((c.name for c in columns), printers.cells(message, created + 30), strict=True))
    if recorded["kind"] == "Job":  # a newer column
        del row["Status"]
    assert list(row) == names
    for name, cell in zip(names, expected, strict=True):
        if cell != "<any>" and "<any>" not in str(cell):
            assert row[name] == cell, name
        elif name in AGES:
            assert row[name]


def test_age_is_counted_from_creation() -> None:
    message = codec.from_dict(unmasked(PRINTED[0]))
    created = times.to_seconds(message.metadata.creationTimestamp)  # type: ignore[attr-defined]
    assert printers.cells(message, created + 125)[-1] == "2m5s"
