"""Names, labels and annotations: each check returns Kubernetes' messages, none when the text is valid."""

import ipaddress
import re
from typing import Final

_DNS1123_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS1123_SUBDOMAIN: Final = rf"{_DNS1123_LABEL}(\.{_DNS1123_LABEL})*"
_DNS1035_LABEL: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_QUALIFIED})?"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"
_ENV_NAME: Final = "[-._a-zA-Z][-._a-zA-Z0-9]*"

_COMPILED: Final = {
    pattern: re.compile(pattern, re.ASCII)
    for pattern in (
        _DNS1123_LABEL,
        _DNS1123_SUBDOMAIN,
        _DNS1035_LABEL,
        _QUALIFIED,
        _LABEL_VALUE,
        _CONFIG_KEY,
        _ENV_NAME,
    )
}


def _matches(pattern: str, text: str) -> bool:
    return _COMPILED[pattern].fullmatch(text) is not None


def max_length(limit: int) -> str:
    return f"must be no more than {limit} characters"


def _regex_error(message: str, pattern: str, *examples: str) -> str:
    # Kubernetes joins them so, with a space too many.
    quoted = "',  or '".join(examples)
    return f"{message} (e.g. '{quoted}', regex used for validation is '{pattern}')"


def is_dns1123_label(text: str) -> list[str]:
    """Names of namespaces, containers and the like."""
    errors = [max_length(63)] if len(text) > 63 else []
    if not _matches(_DNS1123_LABEL, text):
        errors.append(
            _regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
                "and end with an alphanumeric character",
                _DNS1123_LABEL,
                "my-name",
                "123-abc",
            )
        )
    return errors


def is_dns1123_subdomain(text: str) -> list[str]:
    """Names of most objects."""
    errors = [max_length(253)] if len(text) > 253 else []
    if not _matches(_DNS1123_SUBDOMAIN, text):
        errors.append(
            _regex_error(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
                "must start and end with an alphanumeric character",
                _DNS1123_SUBDOMAIN,
                "example.com",
            )
        )
    return errors


def is_dns1035_label(text: str) -> list[str]:
    """Names of Services."""
    errors = [max_length(63)] if len(text) > 63 else []
    if not _matches(_DNS1035_LABEL, text):
        errors.append(
            _regex_error(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
                "character, and end with an alphanumeric character",
                _DNS1035_LABEL,
                "my-name",
                "abc-123",
            )
        )
    return errors


def is_qualified_name(text: str) -> list[str]:
    """Label and annotation keys, taint keys, resource names: `name` or `prefix/name`."""
    prefix, slash, name = text.rpartition("/")
    errors: list[str] = []
    if "/" in prefix:
        return [
            "a qualified name "
            + _regex_error(
                "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
                "alphanumeric character",
                _QUALIFIED,
                "MyName",
                "my.name",
                "123-abc",
            )
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    if slash:
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors.extend(f"prefix part {error}" for error in is_dns1123_subdomain(prefix))
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append(f"name part {max_length(63)}")
    if not _matches(_QUALIFIED, name):
        errors.append(
            "name part "
            + _regex_error(
                "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
                "alphanumeric character",
                _QUALIFIED,
                "MyName",
                "my.name",
                "123-abc",
            )
        )
    return errors


def is_label_value(text: str) -> list[str]:
    errors = [max_length(63)] if len(text) > 63 else []
    if not _matches(_LABEL_VALUE, text):
        errors.append(
            _regex_error(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
                "must start and end with an alphanumeric character",
                _LABEL_VALUE,
                "MyValue",
                "my_value",
                "12345",
            )
        )
    return errors


def is_config_key(text: str) -> list[str]:
    """Keys of ConfigMaps and Secrets."""
    errors = [max_length(253)] if len(text) > 253 else []
    if not _matches(_CONFIG_KEY, text):
        errors.append(
            _regex_error(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                _CONFIG_KEY,
                "key.name",
                "KEY_NAME",
                "key-name",
            )
        )
    elif text == ".":
        errors.append("must not be '.'")
    elif text == "..":
        errors.append("must not be '..'")
    elif text.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def is_env_name(text: str) -> list[str]:
    errors = []
    if not _matches(_ENV_NAME, text):
        errors.append(
            _regex_error(
                "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
                "and must not start with a digit",
                _ENV_NAME,
                "my.env-name",
                "MY_ENV.NAME",
                "MyEnvName1",
            )
        )
    if text == ".":
        errors.append("must not be '.'")
    elif text == "..":
        errors.append("must not be '..'")
    elif text.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def is_ip(text: str) -> list[str]:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []


def is_port_number(port: int) -> list[str]:
    return [] if 1 <= port <= 65535 else ["must be between 1 and 65535, inclusive"]


def is_port_name(text: str) -> list[str]:
    """Names of container and Service target ports (IANA_SVC_NAME)."""
    errors = []
    if len(text) > 15:
        errors.append("must be no more than 15 characters")
    if not re.fullmatch("[-a-z0-9]+", text):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        errors.append("must contain at least one letter (a-z)")
    if "--" in text:
        errors.append("must not contain consecutive hyphens")
    if text and (text[0] == "-" or text[-1] == "-"):
        errors.append("must not begin or end with a hyphen")
    return errors
