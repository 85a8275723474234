"""The scaffold every service runs on: flags and config file, TLS, logs, metrics, health, reflection, shutdown."""

from tillerman.service.options import ServiceOptions, option
from tillerman.service.runtime import Component, ServiceRuntime
from tillerman.service.scaffold import run
from tillerman.service.tls import UserInfo

__all__ = ["Component", "ServiceOptions", "ServiceRuntime", "UserInfo", "option", "run"]
