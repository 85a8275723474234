"""What informers tell Prometheus; label `resource` is the plural name."""

from prometheus_client import Counter, Gauge

OBJECTS = Gauge("informer_objects", "Objects in an informer's store.", ["resource"])
EVENTS = Counter("informer_events", "Watch events applied.", ["resource"])
RELISTS = Counter("informer_lists", "Full lists: the first one, and one after each gap that a watch could not fill.",
                  ["resource"])  # fmt: skip
WATCH_BREAKS = Counter("informer_watch_breaks", "Lists and watches that failed, by reason.", ["resource", "reason"])
HANDLER_ERRORS = Counter("informer_handler_errors", "Event handlers that raised.", ["resource"])
