"""Rules for the Windows part of security contexts."""

from __future__ import annotations

import re
from typing import Any

from services.apiserver.strategy.causes import Cause, invalid, invalid_all
from services.apiserver.strategy.names import dns_subdomain

_SPEC_LIMIT = 64 * 1024
_DOMAIN_LIMIT, _NETBIOS_LIMIT, _USER_LIMIT = 256, 15, 104
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_NOT_NETBIOS = re.compile(r'[\\/:*?"<>|]')
_DNS_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?"
_DNS_DOMAIN = re.compile(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*")
_BAD_USER = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_DOTS = re.compile(r"[. ]+")


def windows_options(path: str, context: Any) -> list[Cause]:
    """`context` is a pod's or a container's security context."""
    if not context.HasField("windowsOptions"):
        return []
    options, where = context.windowsOptions, f"{path}.windowsOptions"
    causes: list[Cause] = []
    if options.HasField("gmsaCredentialSpecName"):
        name = options.gmsaCredentialSpecName
        causes += invalid_all(f"{where}.gmsaCredentialSpecName", name, dns_subdomain(name))
    if options.HasField("gmsaCredentialSpec"):
        spec, spec_path = options.gmsaCredentialSpec, f"{where}.gmsaCredentialSpec"
        if not spec:
            causes.append(invalid(spec_path, spec, "gmsaCredentialSpec cannot be an empty string"))
        elif len(spec) > _SPEC_LIMIT:
            causes.append(invalid(spec_path, spec, "gmsaCredentialSpec size must be under 64 KiB"))
    if options.HasField("runAsUserName"):
        causes += _user_name(f"{where}.runAsUserName", options.runAsUserName)
    return causes


def _user_name(path: str, text: str) -> list[Cause]:
    """`DOMAIN\\USER` or `USER`, as Windows takes them."""
    if not text:
        return [invalid(path, text, "runAsUserName cannot be an empty string")]
    if _CONTROL.search(text):
        return [invalid(path, text, "runAsUserName cannot contain control characters")]
    parts = text.split("\\")
    if len(parts) > 2:
        detail = (
            "runAsUserName cannot contain more than one backslash, as the format should be `DOMAIN\\USER` or `USER`"
        )
        return [invalid(path, text, detail)]
    causes: list[Cause] = []
    if len(parts) == 2:
        causes += _domain(path, text, parts[0])
    return causes + _user(path, text, parts[-1])


def _domain(path: str, text: str, domain: str) -> list[Cause]:
    if len(domain) >= _DOMAIN_LIMIT:
        return [invalid(path, text, f"runAsUserName's Domain length must be under {_DOMAIN_LIMIT} characters")]
    netbios = 0 < len(domain) <= _NETBIOS_LIMIT and domain[0] != "." and not _NOT_NETBIOS.search(domain)
    if netbios or _DNS_DOMAIN.fullmatch(domain):
        return []
    detail = "runAsUserName's Domain doesn't match the NetBios nor the DNS format"
    return [invalid(path, text, detail)]


def _user(path: str, text: str, user: str) -> list[Cause]:
    causes: list[Cause] = []
    if not user:
        return [invalid(path, text, "runAsUserName's User cannot be empty")]
    if len(user) > _USER_LIMIT:
        detail = f"runAsUserName's User length must not be longer than {_USER_LIMIT} characters"
        return [invalid(path, text, detail)]
    if _DOTS.fullmatch(user):
        causes.append(invalid(path, text, "runAsUserName's User cannot contain only periods or spaces"))
    if _BAD_USER.search(user):
        detail = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"
        causes.append(invalid(path, text, detail))
    return causes
