"""structlog, imported without rich, which it looks for to draw tracebacks and which takes 0.15 s to load.

`services` imports this first, so that modules below may `import structlog` as ever; rich can still be imported later.
"""

import sys

_hidden = [name for name in ("rich", "better_exceptions") if name not in sys.modules]
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    import structlog
    import structlog.contextvars
    import structlog.dev
    import structlog.processors
finally:
    for _name in _hidden:
        del sys.modules[_name]

__all__ = ["structlog"]
