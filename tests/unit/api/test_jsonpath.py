"""JSONPath templates as kubectl understands them."""

import pytest

from tillerman.api.jsonpath import PathError, find, render

DATA = {
    "kind": "List",
    "items": [
        {"metadata": {"name": "a", "labels": {"k8s.io/app": "x"}}, "n": 1, "ok": True, "c": [{"t": "R", "s": "T"}]},
        {"metadata": {"name": "b"}, "n": 20, "ok": False, "c": [{"t": "R", "s": "F"}, {"t": "Q", "s": "T"}]},
        {"metadata": {"name": "c"}, "n": 3},
    ],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.kind}", "List"),
        (".kind", "List"),
        ("kind", "List"),
        ("{$.kind}", "List"),
        ("kind is {.kind}!", "kind is List!"),
        ("{.items[*].metadata.name}", "a b c"),
        ("{.items[0].metadata.name}", "a"),
        ("{.items[-1].metadata.name}", "c"),
        ("{.items[0:2].metadata.name}", "a b"),
        ("{.items[::2].metadata.name}", "a c"),
        ("{.items[0,2].metadata.name}", "a c"),
        ("{.items[*]['metadata']['name']}", "a b c"),
        ("{.items[*]['n','ok']}", "1 true 20 false 3"),
        (r"{.items[0].metadata.labels.k8s\.io/app}", "x"),
        ('{.items[?(@.metadata.name=="b")].n}', "20"),
        ("{.items[?(@.n>2)].metadata.name}", "b c"),
        ("{.items[?(@.ok==true)].metadata.name}", "a"),
        ("{.items[?(@.c)].metadata.name}", "a b"),
        ('{.items[*].c[?(@.t=="R")].s}', "T F"),
        ("{..name}", "a b c"),
        ('{range .items[*]}{.metadata.name}{"\\t"}{.n}{"\\n"}{end}', "a\t1\nb\t20\nc\t3\n"),
        ("{range .items[*]}[{.metadata.name}{range .c[*]} {.s}{end}]{end}", "[a T][b F T][c]"),
        ("{.items[0].metadata}", '{"name":"a","labels":{"k8s.io/app":"x"}}'),
        ("{.items[0].ok} {.items[0].n}", "true 1"),
        ("{.missing.field}", ""),
        ("{.items[9].n}", ""),
        ("{.kind .items[0].n}", "List 1"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert render(template, DATA) == text


@pytest.mark.parametrize("template", ["{.a", "{range .items[*]}x", "{end}", "{.items[a b]}", "{.items[?(@.n}"])
def test_templates_that_cannot_be_understood(template: str) -> None:
    with pytest.raises(PathError):
        render(template, DATA)


def test_strict_reports_missing_fields() -> None:
    with pytest.raises(PathError, match="nope is not found"):
        render("{.nope}", DATA, strict=True)


def test_find() -> None:
    assert find(".items[*].n", DATA) == [1, 20, 3]
