"""The processes of a cluster, one package each."""

# Before any service's module imports structlog.
from tillerman.service import quick_structlog

__all__ = ["quick_structlog"]
