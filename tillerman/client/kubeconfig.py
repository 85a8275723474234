"""kubeconfig files: kubectl's own format, with our gRPC endpoints as an extension of the cluster entry.

    clusters:
    - name: default
      cluster:
        server: https://127.0.0.1:6443            # for kubectl
        certificate-authority: pki/ca.crt
        extensions:
        - name: tillerman.dev/grpc
          extension: {endpoints: ["127.0.0.1:6442"]}   # for our clients

Paths are relative to the file. kubectl keeps the extension when it rewrites the file.
"""

import base64
import os
from pathlib import Path
from typing import Any

import yaml

from tillerman.client.channel import ClientConfig, Pem

EXTENSION = "tillerman.dev/grpc"


class ConfigError(ValueError):
    """A kubeconfig that is missing, unreadable or incomplete; the message names the file and the entry."""


def default_path() -> Path:
    """$KUBECONFIG (its first file that exists), else the local cluster's, else ~/.kube/config."""
    for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep):
        if entry and Path(entry).exists():
            return Path(entry)
    home = Path(os.environ.get("TILLERMAN_HOME") or Path.home() / ".tillerman")
    local = home / (os.environ.get("TILLER_CLUSTER") or "default") / "kubeconfig"
    return local if local.exists() else Path.home() / ".kube" / "config"


def load(path: Path | None, *, context: str = "") -> ClientConfig:
    """Reads one context (the current one unless named). Raises ConfigError."""
    path = path or default_path()
    document = _read(path)
    name = context or str(document.get("current-context") or "")
    if not name:
        raise ConfigError(f"{path}: no current-context")
    chosen = _entry(document, "contexts", "context", name, path)
    cluster = _entry(document, "clusters", "cluster", str(chosen.get("cluster", "")), path)
    user = _entry(document, "users", "user", str(chosen["user"]), path) if chosen.get("user") else {}
    extension = _extension(cluster)
    endpoints = [str(e) for e in extension.get("endpoints") or []]
    if not endpoints:
        raise ConfigError(
            f"{path}: cluster {chosen.get('cluster')!r} has no gRPC endpoint: extension {EXTENSION!r} with endpoints"
        )
    return ClientConfig(
        servers=endpoints,
        ca=_pem(cluster, "certificate-authority", path),
        cert=_pem(user, "client-certificate", path),
        key=_pem(user, "client-key", path),
        token=_token(user, path),
        insecure=bool(extension.get("insecure", False)),
        namespace=str(chosen.get("namespace") or "default"),
        server_name=str(cluster.get("tls-server-name") or ""),
        https_server=str(cluster.get("server") or ""),
    )


def write(
    path: Path,
    *,
    endpoints: list[str],
    server: str = "",
    ca: Pem = None,
    cert: Pem = None,
    key: Pem = None,
    token: str = "",
    insecure: bool = False,
    name: str = "default",
    user: str = "admin",
    namespace: str = "",
    server_name: str = "",
) -> None:
    """Writes a kubeconfig of one context, whole or not at all, readable by its owner only.

    PEM given as bytes is embedded; PEM given as a path is referred to, relative to the file where that is shorter.
    """
    grpc: dict[str, Any] = {"endpoints": endpoints}
    if insecure:
        grpc["insecure"] = True
    cluster: dict[str, Any] = {"server": server or f"https://{endpoints[0]}"}
    _put_pem(cluster, "certificate-authority", ca, path)
    if server_name:
        cluster["tls-server-name"] = server_name
    cluster["extensions"] = [{"name": EXTENSION, "extension": grpc}]
    credentials: dict[str, Any] = {"token": token} if token else {}
    _put_pem(credentials, "client-certificate", cert, path)
    _put_pem(credentials, "client-key", key, path)
    context = {"cluster": name, "user": user} | ({"namespace": namespace} if namespace else {})
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        yaml.dump(document, file, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
    draft.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        raise ConfigError(f"no client configuration at {path}: start a cluster (tiller up) or set KUBECONFIG") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a kubeconfig file")
    return document


def _entry(document: dict[str, Any], section: str, kind: str, name: str, path: Path) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if entry.get("name") == name:
            found: dict[str, Any] = entry.get(kind) or {}
            return found
    raise ConfigError(f"{path}: no {kind} {name!r} under {section}")


def _extension(cluster: dict[str, Any]) -> dict[str, Any]:
    for entry in cluster.get("extensions") or []:
        if entry.get("name") == EXTENSION:
            found: dict[str, Any] = entry.get("extension") or {}
            return found
    return {}


def _pem(section: dict[str, Any], field: str, path: Path) -> Pem:
    if embedded := section.get(f"{field}-data"):
        try:
            return base64.b64decode(embedded, validate=True)
        except ValueError as error:
            raise ConfigError(f"{path}: {field}-data is not base64: {error}") from error
    if named := section.get(field):
        return path.parent / str(named)
    return None


def _token(user: dict[str, Any], path: Path) -> str:
    if token := user.get("token"):
        return str(token)
    if file := user.get("tokenFile"):
        return (path.parent / str(file)).read_text().strip()
    return ""


def _put_pem(section: dict[str, Any], field: str, pem: Pem, path: Path) -> None:
    if isinstance(pem, bytes):
        section[f"{field}-data"] = base64.b64encode(pem).decode()
    elif pem is not None:
        folder, pem = path.parent.absolute(), pem.absolute()
        section[field] = str(pem.relative_to(folder)) if pem.is_relative_to(folder) else str(pem)
