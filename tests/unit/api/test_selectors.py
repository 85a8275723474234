"""Label and field selectors."""

import re

import pytest

from tillerman.api.selectors import NOTHING, from_map, from_message, parse_field_selector, parse_label_selector
from tillerman.pb.k8s import meta_v1_pb2 as meta

WEB = {"app": "web", "tier": "front", "rank": "5"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=db", False),
        ("app!=db", True),
        ("nope!=x", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,cache)", True),
        ("nope notin (x)", True),
        ("app", True),
        ("!app", False),
        ("!nope", True),
        ("rank>4", True),
        ("rank<5", False),
        ("rank > 4, rank < 6", True),
        ("empty=", False),
        ("app in (web),!nope,tier!=back", True),
        ("example.com/x in ()", False),
    ],
)
def test_labels(text: str, matches: bool) -> None:
    selector = parse_label_selector(text)
    assert selector.matches(WEB) is matches
    assert str(parse_label_selector(str(selector))) == str(selector)


@pytest.mark.parametrize(
    "text",
    ["app=web,", "=x", "app=(x)", "app in web", "app in (web", "a b", "!", "rank>x", "-a=b", "a=b c", "a=-", "a$=b"],
)
def test_labels_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_label_selector(text)


def test_canonical_text() -> None:
    assert str(parse_label_selector("z in (b,a),!y,x==1,w")) == "w,x=1,!y,z in (a,b)"


def test_messages() -> None:
    selector = from_message(
        meta.LabelSelector(
            matchLabels={"app": "web"},
            matchExpressions=[meta.LabelSelectorRequirement(key="tier", operator="NotIn", values=["back"])],
        )
    )
    assert selector.matches(WEB)
    assert str(selector) == "app=web,tier notin (back)"
    assert from_message(meta.LabelSelector()).empty
    assert from_message(None) is NOTHING
    assert not NOTHING.matches({})
    with pytest.raises(ValueError, match="Near"):
        from_message(meta.LabelSelector(matchExpressions=[meta.LabelSelectorRequirement(key="a", operator="Near")]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a==b==c", "found '==', expected: ',' or 'end of string'"),
        ("a===b", "unable to parse requirement: found '=', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a in (b,,)", "unable to parse requirement: found ')', expected: ',', or identifier"),
        ("a>b", "unable to parse requirement: for 'Gt', 'Lt' operators, the value must be an integer"),
    ],
)
def test_refused_label_selectors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        parse_label_selector(text)


def test_only_numbers_are_compared() -> None:
    selector = parse_label_selector("v>9")
    assert selector.matches({"v": "10"})
    assert not any(selector.matches({"v": value}) for value in ("9", "1_0", "ten", ""))


def test_a_value_may_be_empty() -> None:
    for text, values in {"a in ()": "", "a in (,b)": ",b", "a in (b,)": ",b", "a in (b,,c)": ",b,c"}.items():
        assert str(parse_label_selector(text)) == f"a in ({values})"


def test_maps() -> None:
    assert from_map({"app": "web"}).matches(WEB)
    assert from_map({}) is NOTHING


def test_fields() -> None:
    selector = parse_field_selector(r"status.phase!=Failed,spec.nodeName==n1,metadata.name=a\,b\=c")
    values = {"status.phase": "Running", "spec.nodeName": "n1", "metadata.name": "a,b=c"}
    assert selector.matches(lambda path: values.get(path, ""))
    assert selector.required("spec.nodeName") == "n1"
    assert selector.required("status.phase") is None
    assert parse_field_selector(str(selector)) == selector
    assert parse_field_selector("").empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "invalid selector: 'x'; can't understand 'x'"),
        ("b,a=1,c!x", "invalid selector: 'b,a=1,c!x'; can't understand 'b'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        (r"a=b\x", r"invalid field selector: invalid escape sequence: \x"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)
def test_refused_field_selectors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        parse_field_selector(text)


def test_a_field_keeps_its_spaces() -> None:
    assert parse_field_selector("a = b").requirements == (("a ", "=", " b"),)
