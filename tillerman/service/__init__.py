"""The scaffold every service runs on: flags and config file, TLS, logs, metrics, health, reflection, shutdown.

Names are loaded on first use, so that who only issues certificates doesn't load a server.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tillerman.service.options import OptionsError, ServiceOptions, option
    from tillerman.service.runtime import Component, ServiceRuntime
    from tillerman.service.scaffold import run
    from tillerman.service.tls import UserInfo

_HOME = {
    "Component": "runtime",
    "OptionsError": "options",
    "ServiceOptions": "options",
    "ServiceRuntime": "runtime",
    "UserInfo": "tls",
    "option": "options",
    "run": "scaffold",
}

__all__ = ["Component", "OptionsError", "ServiceOptions", "ServiceRuntime", "UserInfo", "option", "run"]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
