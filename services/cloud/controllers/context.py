"""What the cloud controllers are given."""

from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message

from services.cloud.provider import Provider
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.client.informer import Informer
from tillerman.pb.k8s import core_v1_pb2 as core


class Recorder(Protocol):
    def event(self, obj: Message, type: str, reason: str, message: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    client: Client
    provider: Provider
    nodes: Informer[core.Node]
    services: Informer[core.Service]
    recorder: Recorder
    clock: Clock
