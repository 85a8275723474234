"""Kubernetes' rules for names, labels and annotations: each function returns what is wrong, in Kubernetes' words."""

import ipaddress
import re

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character"
)
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character"
)
LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character"
)
VALUE = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character"
)
ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"


def regex_error(text: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{e}'" for e in examples)
    return f"{text} (e.g. {shown}, regex used for validation is '{pattern}')"


def max_length(limit: int) -> str:
    return f"must be no more than {limit} characters"


def checked(value: str, pattern: str, limit: int, text: str, *examples: str) -> list[str]:
    problems = [max_length(limit)] if len(value) > limit else []
    if not re.fullmatch(pattern, value):
        problems.append(regex_error(text, pattern, *examples))
    return problems


def is_dns1123_label(value: str) -> list[str]:
    return checked(value, LABEL, 63, LABEL_TEXT, "my-name", "123-abc")


def is_dns1123_subdomain(value: str) -> list[str]:
    return checked(value, SUBDOMAIN, 253, SUBDOMAIN_TEXT, "example.com")


def is_dns1035_label(value: str) -> list[str]:
    return checked(value, LABEL_1035, 63, LABEL_1035_TEXT, "my-name", "abc-123")


is_dns1123_name = is_dns1123_subdomain


def is_qualified_name(value: str) -> list[str]:
    problems = []
    parts = value.split("/")
    name = parts[-1]
    if len(parts) == 2:
        if not parts[0]:
            problems.append("prefix part must be non-empty")
        else:
            problems += [f"prefix part {p}" for p in is_dns1123_subdomain(parts[0])]
    elif len(parts) > 2:
        example = regex_error("a valid qualified name", "", "").split(" (")[0]
        text = (
            f"{example.replace('a valid qualified name', 'a qualified name')} must consist of alphanumeric characters, "
            "'-', '_' or '.', and must start and end with an alphanumeric character"
        )
        return [
            regex_error(text, QUALIFIED, "MyName", "my.name", "123-abc")
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append(f"name part {max_length(63)}")
    if not re.fullmatch(QUALIFIED, name):
        problems.append(regex_error(QUALIFIED_TEXT, QUALIFIED, "MyName", "my.name", "123-abc"))
    return problems


def is_label_value(value: str) -> list[str]:
    return checked(value, VALUE, 63, VALUE_TEXT, "MyValue", "my_value", "12345")


def is_env_name(value: str) -> list[str]:
    text = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit"
    problems = [] if re.fullmatch(ENV_NAME, value) else [regex_error(text, ENV_NAME, "my.env-name", "MY_ENV.NAME", "MyEnvName1")]
    if value in (".", ".."):
        problems.append(f"must not be '{value}'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def is_config_key(value: str) -> list[str]:
    problems = [max_length(253)] if len(value) > 253 else []
    text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    if not re.fullmatch("[-._a-zA-Z0-9]+", value):
        problems.append(regex_error(text, "[-._a-zA-Z0-9]+", "key.name", "KEY_NAME", "key-name"))
    if value in (".", ".."):
        problems.append(f"must not be '{value}'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def is_ip(value: str) -> list[str]:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []
