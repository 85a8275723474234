"""JSON of whatever was read from JSON."""

import json

import pytest

from tillerman.api.json_text import compact


@pytest.mark.parametrize(
    "text", ['{"b":[1,2.5,null,true],"a":"é"}', "18446744073709551616", '[-99999999999999999999,"x"]', '""']
)
def test_what_was_read_is_written_again(text: str) -> None:
    assert compact(json.loads(text)) == text


def test_keys_in_their_order() -> None:
    assert compact({"b": 1 << 70, "a": {"d": 1, "c": 2}}, sort=True) == '{"a":{"c":2,"d":1},"b":1180591620717411303424}'


def test_what_is_no_text_is_written_as_text() -> None:
    assert compact(json.loads(r'"\ud800"')) == '"?"'
