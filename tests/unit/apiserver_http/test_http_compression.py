"""Which answers are compressed, and for whom."""

import gzip

import pytest

from services.apiserver.fronts.http.compression import COMPRESSED_BYTES, compressed
from services.apiserver.fronts.http.content import Answer


@pytest.mark.parametrize(
    ("accepts", "size", "packed"),
    [
        ("gzip", COMPRESSED_BYTES, True),
        ("br;q=1, GZIP;q=0.5", COMPRESSED_BYTES, True),
        ("gzip", COMPRESSED_BYTES - 1, False),
        ("gzip;q=0, deflate", COMPRESSED_BYTES, False),
        ("", COMPRESSED_BYTES, False),
    ],
)
async def test_only_big_answers_and_only_for_who_takes_them(accepts: str, size: int, packed: bool) -> None:
    answer = Answer(b"x" * size)
    sent = await compressed(answer, {"Accept-Encoding": accepts})
    assert (("Content-Encoding", "gzip") in sent.headers) is packed
    assert (gzip.decompress(sent.body) if packed else sent.body) == answer.body


async def test_refusals_stay_as_they_are() -> None:
    answer = Answer(b"x" * COMPRESSED_BYTES, 500)
    assert await compressed(answer, {"Accept-Encoding": "gzip"}) is answer
