"""When the next call to etcd may start, where callers share calls.

Python pays for each call, so under load it is worth a moment to gather more callers: the more shared the last call, the
longer; and on a machine that is slow at the moment, calls take longer and so may the gathering. A lone caller never
waits.
"""

from __future__ import annotations

# Seconds between the starts of two calls for each caller beside the first that shared the last one, and at most.
SPACING = 0.001
MAX_SPACING = 0.002
# At most so many round trips of late, where that is longer; and never longer than this.
ROUND_TRIPS = 2.0
LONGEST_SPACING = 0.015
# The weight of the newest round trip in what "of late" means.
_NEWEST = 0.125


class Pace:
    """``earliest``: the event loop's time before which no call should start."""

    def __init__(self) -> None:
        self.earliest = 0.0
        self._round_trip = 0.0

    def started(self, now: float, sharing: int) -> None:
        """A call that so many callers share starts."""
        longest = max(MAX_SPACING, min(ROUND_TRIPS * self._round_trip, LONGEST_SPACING))
        self.earliest = now + min(SPACING * (sharing - 1), longest)

    def ended(self, seconds: float) -> None:
        """A call has taken so long."""
        self._round_trip += (seconds - self._round_trip) * _NEWEST
