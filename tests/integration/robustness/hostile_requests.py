"""Seeded random requests for both fronts: valid manifests of every kind, mutated at every level of the protocol."""

from __future__ import annotations

from hostile_grpc import GrpcRequests
from hostile_http import HttpRequests


class Generator(HttpRequests, GrpcRequests):
    """``http(n)`` and ``grpc(n)``: the request of that number; what came before in this Generator has its say too."""
