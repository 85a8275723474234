"""gzip for big answers."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Mapping

from services.apiserver.fronts.http.content import Answer

# Answers to reads that are at least as big are compressed.
COMPRESSED_BYTES = 128 * 1024
GZIP = re.compile(r"(^|,)\s*gzip\s*(,|$|;(?!\s*q=0(\.0*)?\s*(,|$)))")


async def compressed(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """A big answer for who takes gzip, made in a thread: as Kubernetes, quickly rather than small."""
    takes = headers.get("Accept-Encoding", "").lower()
    if len(answer.body) < COMPRESSED_BYTES or answer.code != 200 or not GZIP.search(takes):
        return answer
    body = await asyncio.to_thread(gzip.compress, answer.body, 1)
    extra = [*answer.headers, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
    return Answer(body, answer.code, answer.media_type, extra)
