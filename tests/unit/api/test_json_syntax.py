"""Faults of JSON text in Go's words."""

import pytest

from tillerman.api.json_syntax import syntax_error

CASES = [
    ("", "unexpected end of JSON input"),
    ('{"data":', "unexpected end of JSON input"),
    ("{oops", "invalid character 'o' looking for beginning of object key string"),
    ("hello", "invalid character 'h' looking for beginning of value"),
    ("not json", "invalid character 'o' in literal null (expecting 'u')"),
    ('{"a" 1}', "invalid character '1' after object key"),
    ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
    ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
    ("[1 2]", "invalid character '2' after array element"),
    ("[1,]", "invalid character ']' looking for beginning of value"),
    ('{"a":1}x', "invalid character 'x' after top-level value"),
    ('"a\nb"', "invalid character '\\n' in string literal"),
    ('"\\q"', "invalid character 'q' in string escape code"),
    ('"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
    ("-x", "invalid character 'x' in numeric literal"),
    ("1.x", "invalid character 'x' after decimal point in numeric literal"),
    ("1ex", "invalid character 'x' in exponent of numeric literal"),
    ("01", "invalid character '1' after top-level value"),
    ("\x00", "invalid character '\\x00' looking for beginning of value"),
    ("'a'", "invalid character '\\'' looking for beginning of value"),
]


@pytest.mark.parametrize(("text", "fault"), CASES, ids=[repr(c[0]) for c in CASES])
def test_fault(text: str, fault: str) -> None:
    assert syntax_error(text.encode()) == fault


def test_bytes_that_are_no_text() -> None:
    assert syntax_error(b"\x81") == "invalid character '\\u0081' looking for beginning of value"


def test_depth_is_no_limit() -> None:
    assert syntax_error(b"[" * 100_000 + b"]" * 100_000) == ""


@pytest.mark.parametrize("text", [b"0", b"-1.5e+3", b'"\\u00e9\\n"', b' {"a": [1, {"b": null}], "c": true} ', b"[]"])
def test_json_has_no_fault(text: bytes) -> None:
    assert syntax_error(text) == ""
