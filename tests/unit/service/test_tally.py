"""Numbers without locks are told as prometheus_client tells its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from tillerman.service.tally import Counts, Durations


def without_created(text: bytes) -> list[str]:
    return sorted(line for line in text.decode().splitlines() if "_created" not in line)


def test_the_text_is_that_of_a_counter_and_a_histogram() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = Counts("calls", "Calls.", ["code"], registry=ours)
    seconds = Durations("took_seconds", "Seconds.", ["verb"], buckets=(0.1, 1.0), registry=ours)
    counter = Counter("calls_total", "Calls.", ["code"], registry=theirs)
    histogram = Histogram("took_seconds", "Seconds.", ["verb"], buckets=(0.1, 1.0), registry=theirs)
    for code in ("200", "404", "200"):
        counts.cell(code).value += 1
        counter.labels(code).inc()
    for amount in (0.05, 0.1, 0.5, 5.0):
        seconds.series("GET").observe(amount)
        histogram.labels("GET").observe(amount)
    assert without_created(generate_latest(ours)) == without_created(generate_latest(theirs))
