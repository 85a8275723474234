"""Where the API server is and who we are; and the one long-lived gRPC channel to it."""

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

# The name that every API server certificate carries; checked when there are several endpoints behind one channel.
SHARED_SERVER_NAME = "kubernetes"

# Pings only while calls are open, far apart enough for any server's ping policy. Reconnects are quick, since an API
# server that restarts is back within a second and everything waits for it.
CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "tillerman"),
)

Pem = Path | bytes | None


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """A gRPC endpoint and an identity. `servers` are "host:port"; ca, cert and key are PEM, as a path or as bytes."""

    servers: list[str]
    ca: Pem = None
    cert: Pem = None
    key: Pem = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    insecure: bool = False
    namespace: str = "default"
    server_name: str = ""
    https_server: str = ""

    @classmethod
    def load(cls, path: Path | str | None = None, *, context: str = "") -> "ClientConfig":
        """Reads a kubeconfig file with our gRPC endpoint. Raises ConfigError, which says what is missing and where."""
        from tillerman.client.kubeconfig import load

        return load(Path(path) if path else None, context=context)


def read_pem(pem: Pem) -> bytes | None:
    return pem.read_bytes() if isinstance(pem, Path) else pem


def open_channel(config: ClientConfig, *, options: tuple[tuple[str, int | str], ...] = ()) -> grpc.aio.Channel:
    """A channel that connects on its first call and reconnects for ever. Needs a running event loop.

    Raises ValueError for a configuration that cannot work, OSError when a PEM file cannot be read.
    """
    if not config.servers:
        raise ValueError("the client configuration names no server")
    target = config.servers[0] if len(config.servers) == 1 else _address_list(config.servers)
    settings = [*CHANNEL_OPTIONS, *options]
    server_name = config.server_name or (SHARED_SERVER_NAME if len(config.servers) > 1 else "")
    if server_name:
        settings.append(("grpc.default_authority", server_name))
    if config.insecure:
        if config.token:
            raise ValueError("a token is not sent in plain text: use TLS, or leave the token out")
        return grpc.aio.insecure_channel(target, options=settings)
    if server_name:
        settings.append(("grpc.ssl_target_name_override", server_name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read_pem(config.ca),
        private_key=read_pem(config.key),
        certificate_chain=read_pem(config.cert),
    )
    if config.token:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(config.token))
    return grpc.aio.secure_channel(target, credentials, options=settings)


def _address_list(servers: list[str]) -> str:
    """gRPC takes several addresses only as numbers: "ipv4:10.0.0.1:6443,10.0.0.2:6443". It tries them in turn."""
    addresses = []
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            host = str(socket.getaddrinfo(host, None, family=socket.AF_INET)[0][4][0])
        addresses.append(f"{host}:{port}")
    return "ipv4:" + ",".join(addresses)
