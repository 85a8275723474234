from __future__ import annotations

import zlib

import pytest

from services.apiserver.fronts.http import spdy


def test_the_dictionary_is_the_specifications() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_frames_survive_any_cut(step: int) -> None:
    encoder, decoder = spdy.Encoder(), spdy.Decoder()
    sent = b"".join(
        (
            encoder.syn_stream(1, {"streamtype": "error", "port": "80"}, fin=True),
            encoder.syn_stream(3, {"streamtype": "data", "port": "80"}),
            encoder.data(3, b"hello"),
            encoder.ping(b"\0\0\0\1"),
            encoder.syn_reply(3),
            encoder.data(3, b"", fin=True),
            encoder.reset(3, 5),
        )
    )
    frames = [f for i in range(0, len(sent), step) for f in decoder.feed(sent[i : i + step])]
    kinds = [spdy.SYN_STREAM, spdy.SYN_STREAM, 0, spdy.PING, spdy.SYN_REPLY, 0, spdy.RST_STREAM]
    assert [frame.kind for frame in frames] == kinds
    assert frames[0].headers == {"streamtype": "error", "port": "80"} and frames[0].fin
    assert (frames[2].stream, frames[2].payload, frames[2].fin) == (3, b"hello", False)
    assert frames[5].fin


@pytest.mark.parametrize(
    "sent", [b"\x80\x02\0\x01\0\0\0\0", b"\0\0\0\1\0\xff\xff\xff", b"\x80\3\0\1\0\0\0\x0c" + b"x" * 12]
)
def test_what_is_no_spdy(sent: bytes) -> None:
    with pytest.raises(spdy.ProtocolError):
        spdy.Decoder().feed(sent)
