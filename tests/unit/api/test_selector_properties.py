"""Label and field selectors against an evaluator that knows nothing of parsing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tillerman.api.selectors import parse_field_selector, parse_label_selector

laws = settings(max_examples=60, deadline=None, derandomize=True, database=None)
KEYS = st.sampled_from(["a", "b.c/d", "in", "notin", "x-1"])
VALUES = st.sampled_from(["", "1", "2", "-1" + "x", "in", "a_b.c"]).filter(lambda value: not value.startswith("-"))
SPACE = st.sampled_from(["", " ", "  "])
Requirement = tuple[str, str, tuple[str, ...]]
ONE = st.tuples(KEYS, st.sampled_from(["=", "==", "!="]), st.tuples(VALUES))
SET = st.tuples(KEYS, st.sampled_from(["in", "notin"]), st.lists(VALUES, min_size=1, max_size=3).map(tuple))
NONE = st.tuples(KEYS, st.sampled_from(["exists", "!"]), st.just(()))
NUMBER = st.tuples(KEYS, st.sampled_from(["<", ">"]), st.tuples(st.integers(0, 3).map(str)))
REQUIREMENTS = st.lists(ONE | SET | NONE | NUMBER, max_size=4)
LABELS = st.dictionaries(KEYS, VALUES, max_size=4)


def spelled(requirement: Requirement, space: str) -> str:
    key, operator, values = requirement
    if operator == "exists":
        return key
    if operator == "!":
        return f"!{space}{key}"
    if operator in ("in", "notin"):
        return f"{key} {operator} ({space}{f',{space}'.join(values)}{space})"
    return f"{key}{space}{operator}{space}{values[0]}"


def holds(requirement: Requirement, labels: dict[str, str]) -> bool:
    key, operator, values = requirement
    there, found = key in labels, labels.get(key, "")
    match operator:
        case "=" | "==" | "in":
            return there and found in values
        case "!=" | "notin":
            return not there or found not in values
        case "exists":
            return there
        case "!":
            return not there
    if not there or not found.isdecimal():
        return False
    return int(found) > int(values[0]) if operator == ">" else int(found) < int(values[0])


@laws
@given(requirements=REQUIREMENTS, labels=LABELS, space=SPACE)
def test_label_selectors_match_as_they_say(requirements: list[Requirement], labels: dict[str, str], space: str) -> None:
    text = f"{space},{space}".join(spelled(requirement, space) for requirement in requirements)
    parsed = parse_label_selector(text)
    assert parsed.matches(labels) == all(holds(requirement, labels) for requirement in requirements)
    again = parse_label_selector(str(parsed))
    assert str(again) == str(parsed) and again.matches(labels) == parsed.matches(labels)
    assert parsed.empty == (not requirements)


@laws
@given(text=st.text(st.sampled_from("ab1,=!() <>in/-"), max_size=12), labels=LABELS)
def test_any_text_is_a_selector_or_refused(text: str, labels: dict[str, str]) -> None:
    try:
        parsed = parse_label_selector(text)
    except ValueError:
        return
    assert parse_label_selector(str(parsed)).matches(labels) == parsed.matches(labels)


PATHS = st.sampled_from(["metadata.name", "status.phase", "spec.nodeName"])
TERMS = st.lists(
    st.tuples(PATHS, st.sampled_from(["=", "==", "!="]), st.text(st.sampled_from("ab,=\\."), max_size=4)), max_size=3
)


@laws
@given(terms=TERMS, values=st.dictionaries(PATHS, st.text(st.sampled_from("ab,=\\."), max_size=4)))
def test_field_selectors_match_as_they_say(terms: list[tuple[str, str, str]], values: dict[str, str]) -> None:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")

    parsed = parse_field_selector(",".join(f"{path}{operator}{escaped(value)}" for path, operator, value in terms))
    expected = all((values.get(path, "") == value) == (operator != "!=") for path, operator, value in terms)
    assert parsed.matches(lambda path: values.get(path, "")) == expected
    assert parse_field_selector(str(parsed)) == parsed
