"""A service's options: one dataclass whose fields are flags, environment variables and keys of a YAML file.

    @dataclass(kw_only=True)
    class KubeletOptions(ServiceOptions):
        node_name: str = option("", help="Name of the node object.")
        max_pods: int = option(110, help="Pods that this node takes.")

gives `--node-name`, `--max-pods`; TILLERMAN_NODE_NAME, TILLERMAN_MAX_PODS; and `nodeName:` (or `node-name:`) in the
file given with --config. A flag wins over the environment, that over the file, that over the default.

Field types: str, int, float, bool, Path, list[str] (commas, or the flag repeated), dict[str, str] ("a=1,b=2"), and each
of them with `| None`. A float takes plain seconds or a duration as Go writes it: "1m30s", "500ms".
"""

import argparse
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

O = TypeVar("O", bound="ServiceOptions")  # noqa: E741


class OptionsError(ValueError):
    """A flag, environment variable or key that cannot be used; the message names it."""


def option(default: Any, *, help: str, factory: Callable[[], Any] | None = None) -> Any:
    """A field with its help text. A list or dict default is copied for each instance."""
    if factory is None and isinstance(default, list | dict):
        kept = default
        factory = lambda: type(kept)(kept)  # noqa: E731
    if factory is not None:
        return field(default_factory=factory, metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass(kw_only=True)
class ServiceOptions:
    """What every service takes."""

    config: Path | None = option(None, help="YAML file with any of these options; flags win over it.")
    bind_address: str = option("127.0.0.1", help="Address that the gRPC server listens on.")
    port: int = option(0, help="Port of the gRPC server; 0 takes a free one.")
    metrics_bind_address: str = option("127.0.0.1", help="Address of /metrics, /healthz, /livez and /readyz.")
    metrics_port: int = option(0, help="Port of /metrics and the health pages; 0 takes a free one, -1 serves none.")
    metrics_tls: bool = option(False, help="Serve /metrics and the health pages over TLS, with the gRPC certificate.")
    token_port: int = option(
        -1, help="Port for clients without a certificate (bearer tokens), TLS all the same; -1 serves none."
    )
    tls_cert_file: Path | None = option(None, help="PEM certificate of this server; read again when it changes.")
    tls_key_file: Path | None = option(None, help="PEM private key of this server.")
    client_ca_file: Path | None = option(None, help="PEM CA certificates that client certificates are checked against.")
    insecure: bool = option(False, help="Plain text, no authentication. For try-outs only.")
    kubeconfig: Path | None = option(None, help="Client configuration for the API server.")
    log_level: str = option("info", help="debug, info, warning or error.")
    log_format: str = option("json", help="json, or console for people.")
    ready_file: Path | None = option(None, help="Written, with the ports as JSON, once the service is ready.")
    shutdown_grace: float = option(1.0, help="Seconds that calls in progress may take to end at shutdown.")
    shutdown_timeout: float = option(10.0, help="Seconds after which a shutdown that is not done ends the process.")

    def check(self) -> None:
        """Raises OptionsError for values that cannot work together. Subclasses add theirs and call super().check()."""
        if self.log_format not in ("json", "console"):
            raise OptionsError(f'--log-format: "{self.log_format}" is neither json nor console')
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise OptionsError(f'--log-level: "{self.log_level}" is none of debug, info, warning, error')
        if not self.insecure and not (self.tls_cert_file and self.tls_key_file and self.client_ca_file):
            raise OptionsError(
                "TLS needs --tls-cert-file, --tls-key-file and --client-ca-file (for a try-out: --insecure)"
            )


def parse(
    cls: type[O], argv: Sequence[str], *, prog: str, environ: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> O:  # fmt: skip
    """Options from argv, environment, config file and defaults (a component's own over the class's).

    Raises OptionsError; SystemExit for --help and for a command line that argparse refuses.
    """
    environ = os.environ if environ is None else environ
    specs = {f.name: _Spec(f, hint) for f, hint in _typed_fields(cls)}
    given = vars(_parser(cls, specs, prog, defaults or {}).parse_args(argv))
    values: dict[str, Any] = dict(defaults or {})
    from_environ = {
        name: spec.convert(environ[spec.variable], spec.variable)
        for name, spec in specs.items()
        if spec.variable in environ
    }
    from_flags = {name: spec.convert(given[name], spec.flag) for name, spec in specs.items() if given[name] is not None}
    config = from_flags.get("config") or from_environ.get("config")
    if config is not None:
        values |= _read_file(config, specs)
    options = cls(**(values | from_environ | from_flags))
    options.check()
    return options


class _Spec:
    """How one field is spelled and converted."""

    def __init__(self, spec: "Field[Any]", hint: Any) -> None:
        self.field = spec
        self.flag = "--" + spec.name.replace("_", "-")
        self.variable = "TILLERMAN_" + spec.name.upper()
        self.type = _without_none(hint)
        self.keys = {spec.name, spec.name.replace("_", "-"), _camel(spec.name)}

    def convert(self, value: Any, where: str) -> Any:
        try:
            return _convert(self.type, value)
        except (ValueError, TypeError) as error:
            raise OptionsError(f"{where}: {error}") from None

    @property
    def default(self) -> Any:
        if self.field.default is not MISSING:
            return self.field.default
        return self.field.default_factory() if self.field.default_factory is not MISSING else None


def _typed_fields(cls: type[ServiceOptions]) -> list[tuple["Field[Any]", Any]]:
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in fields(cls)]


def _parser(
    cls: type[ServiceOptions], specs: Mapping[str, _Spec], prog: str, defaults: Mapping[str, Any]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=cls.__doc__, allow_abbrev=False)
    for name, spec in specs.items():
        default = defaults.get(name, spec.default)
        text = str(spec.field.metadata.get("help", "")).replace("%", "%%")
        shown = "" if default in (None, "", [], {}) else f" (default: {default})".replace("%", "%%")
        extra: dict[str, Any] = {}
        if spec.type is bool:
            extra = {"nargs": "?", "const": "true", "metavar": "true|false"}
        elif typing.get_origin(spec.type) in (list, dict):
            extra = {"action": "append", "metavar": "ITEM,…"}
        else:
            extra = {"metavar": name.rpartition("_")[2].upper()}
        parser.add_argument(spec.flag, dest=name, default=None, help=text + shown, **extra)
    return parser


def _read_file(path: Path, specs: Mapping[str, _Spec]) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except OSError as error:
        raise OptionsError(f"--config: cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise OptionsError(f"--config: {path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise OptionsError(f"--config: {path} must hold a mapping")
    by_key = {key: spec for spec in specs.values() for key in spec.keys}
    values = {}
    for key, value in document.items():
        if key in ("apiVersion", "kind"):
            continue
        if key not in by_key:
            raise OptionsError(f'{path}: unknown option "{key}"')
        spec = by_key[key]
        values[spec.field.name] = spec.convert(value, f"{path}: {key}")
    return values


def _convert(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin is list:
        parts = value if isinstance(value, list) else [value]
        return [item for part in parts for item in str(part).split(",") if item != ""]
    if origin is dict:
        if isinstance(value, dict):
            return {str(k): str(v) for k, v in value.items()}
        parts = value if isinstance(value, list) else [value]
        pairs = [item for part in parts for item in str(part).split(",") if item != ""]
        return dict(_pair(item) for item in pairs)
    if kind is bool:
        return _boolean(value)
    if kind is int:
        if isinstance(value, bool):
            raise ValueError(f"{value!r} is not a number")
        return int(str(value), 10)
    if kind is float:
        return duration(value)
    if kind is Path:
        return Path(str(value)) if str(value) else None
    if kind is str:
        return str(value)
    raise TypeError(f"options cannot hold {kind}")


def _pair(item: str) -> tuple[str, str]:
    name, separator, value = item.partition("=")
    if not separator:
        raise ValueError(f'"{item}" is not NAME=VALUE')
    return name, value


def _boolean(value: Any) -> bool:
    match str(value).lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise ValueError(f'"{value}" is neither true nor false')


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h)")


def duration(value: Any) -> float:
    """Seconds from a number, or from Go's notation ("1m30s"). Raises ValueError."""
    text = str(value)
    try:
        return float(text)
    except ValueError:
        pass
    parts = _PART.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f'"{text}" is not a duration: seconds, or like "1m30s"')
    return float(sum(float(n) * _UNITS[u] for n, u in parts))


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return hint


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
