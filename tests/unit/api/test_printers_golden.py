"""Table rows that a real kube-apiserver printed, from the same recordings as test_codec_golden.py."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tillerman.api import codec, printers, times
from tillerman.api.scheme import SCHEME

FIXTURE = Path(__file__).parent / "fixtures" / "golden_creates.jsonl.gz"
CASES = [json.loads(line) for line in gzip.decompress(FIXTURE.read_bytes()).splitlines()]
# Read into today's message, which lacks what the beta version held.
UNREADABLE = ("endpointslice-full", "ingress-v1beta1")
AGES = {"Age", "Last Seen", "First Seen", "Duration", "Last Schedule", "Created At"}


def kind_of(answer: dict[str, Any]) -> tuple[str, str]:
    group, _, version = answer["apiVersion"].rpartition("/")
    if group == "autoscaling":
        return f"{group}/{'v2' if version.startswith('v2') else version}", answer["kind"]
    return f"{group}/v1" if group else "v1", answer["kind"]


PRINTED = [c for c in CASES if c["table"] and c["name"] not in UNREADABLE]


@pytest.mark.parametrize("case", PRINTED, ids=[c["name"] for c in PRINTED])
def test_rows_are_those_of_a_real_apiserver(case: dict[str, Any]) -> None:
    names, expected = case["table"]
    answer = {**case["json"], "apiVersion": kind_of(case["json"])[0]}
    message = codec.from_dict(answer)
    created = times.to_seconds(message.metadata.creationTimestamp)  # type: ignore[attr-defined]
    columns = printers.columns_of(SCHEME.by_kind(*kind_of(case["json"])))
    row = dict(zip((c.name for c in columns), printers.cells(message, created + 30), strict=True))
    if case["json"]["kind"] == "Job":  # a newer column
        del row["Status"]
    assert list(row) == names
    for name, cell in zip(names, expected, strict=True):
        if cell != "<any>" and "<any>" not in str(cell):
            assert row[name] == cell, name
        elif name in AGES:
            assert row[name]


def test_age_is_counted_from_creation() -> None:
    message = codec.from_dict(CASES[0]["json"])
    created = times.to_seconds(message.metadata.creationTimestamp)  # type: ignore[attr-defined]
    assert printers.cells(message, created + 125)[-1] == "2m5s"
