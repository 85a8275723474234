"""Whether a running container is still what its spec says: a hash of the parts that a pod update may change."""

import hashlib

from tillerman.pb.k8s import core_v1_pb2 as core


def container_hash(container: core.Container) -> str:
    """Sixteen hex digits over name and image: Kubernetes allows no other field of a running container to change."""
    text = f"{container.name}\0{container.image}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
