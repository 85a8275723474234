"""The requests that are sent: pods as a Deployment makes them, with places for a client's number and a counter."""

from bench.apiserver.load import CLIENT, COUNT, Piece, Work
from bench.apiserver.stage import Stage
from tillerman.api import codec
from tillerman.pb.api import objects_pb2 as api
from tillerman.pb.k8s import core_v1_pb2 as core

SERVICE = "/tillerman.v1.Objects/"
POD_URL = "type.googleapis.com/k8s.io.api.core.v1.Pod"
# Places in a serialised request, as long as the numbers that go there.
CLIENT_MARK, COUNT_MARK = "client######", "count#######"
MERGE = "application/merge-patch+json"


def pod(name: str, *, revision: str = "0" * 12) -> core.Pod:
    made = core.Pod()
    meta = made.metadata
    meta.name, meta.namespace = name, "default"
    meta.labels.update({"app": "web", "pod-template-hash": "5d4f8c7b9", "tier": "front"})
    meta.annotations["bench/revision"] = revision
    meta.ownerReferences.add(
        apiVersion="apps/v1",
        kind="ReplicaSet",
        name="web-5d4f8c7b9",
        uid="7b0e9f7a-1f43-4c5c-9d2f-7a9d6f3f0c11",
        controller=True,
        blockOwnerDeletion=True,
    )
    container = made.spec.containers.add(name="web", image="registry.example/web:1.4.2")
    container.ports.add(containerPort=8080, name="http")
    container.env.add(name="MODE", value="production")
    container.env.add(name="LOG_LEVEL", value="info")
    container.resources.requests["cpu"].string = "100m"
    container.resources.requests["memory"].string = "128Mi"
    container.resources.limits["memory"].string = "256Mi"
    container.readinessProbe.handler.httpGet.path = "/healthz"
    container.readinessProbe.handler.httpGet.port.intVal = 8080
    container.readinessProbe.handler.httpGet.port.type = 0
    container.readinessProbe.periodSeconds = 5
    return made


def target(name: str = "", subresource: str = "") -> api.Target:
    return api.Target(api_version="v1", resource="pods", namespace="default", name=name, subresource=subresource)


def named(number: str) -> str:
    return f"bench-{number}"


def pieces(raw: bytes) -> tuple[Piece, ...]:
    """A serialised request cut at its places."""
    found: list[Piece] = [raw]
    for mark, piece in ((CLIENT_MARK.encode(), CLIENT), (COUNT_MARK.encode(), COUNT)):
        cut: list[Piece] = []
        for part in found:
            if isinstance(part, str):
                cut.append(part)
                continue
            for i, text in enumerate(part.split(mark)):
                cut += [piece, text] if i else [text]
        found = cut
    return tuple(found)


class Grpc:
    """Requests to the apiserver's gRPC front."""

    def __init__(self, stage: Stage, user: str = "bench") -> None:
        self._stage = stage
        self._user = stage.user(user)

    def create(self, *, manager: str = "") -> Work:
        made = pod(named(COUNT_MARK))
        request = api.CreateRequest(target=target(), field_manager=manager)
        request.object.type_url, request.object.value = POD_URL, made.SerializeToString()
        return self._work("Create", request.SerializeToString())

    def get(self, name: str, *, resource_version: str = "") -> Work:
        return self._work("Get", api.GetRequest(target=target(name), resource_version=resource_version))

    def update(self, stored: core.Pod) -> Work:
        """Each client its own pod, which is like ``stored``; every time another annotation."""
        made = core.Pod()
        made.CopyFrom(stored)
        made.metadata.name = name = named(CLIENT_MARK)
        made.metadata.ClearField("uid")
        made.metadata.ClearField("resourceVersion")
        made.metadata.annotations["bench/revision"] = COUNT_MARK
        request = api.UpdateRequest(target=target(name))
        request.object.type_url, request.object.value = POD_URL, made.SerializeToString()
        return self._work("Update", request.SerializeToString())

    def patch_status(self) -> Work:
        """Each client the status of its own pod, as a kubelet does."""
        request = api.PatchRequest(target=target(named(CLIENT_MARK), "status"), patch_type=MERGE)
        request.patch = b'{"status":{"phase":"Running","message":"%s","podIP":"10.1.2.3"}}' % COUNT_MARK.encode()
        return self._work("Patch", request.SerializeToString())

    def list(self, *, resource_version: str = "") -> Work:
        return self._work("List", api.ListRequest(target=target(), resource_version=resource_version))

    def _work(self, method: str, request: object) -> Work:
        raw = request if isinstance(request, bytes) else request.SerializeToString()  # type: ignore[attr-defined]
        return Work(self._stage.apiserver.address, self._user, SERVICE + method, pieces(raw))


class Http:
    """The same over HTTP/1.1 in JSON."""

    def __init__(self, stage: Stage, user: str = "bench") -> None:
        self._stage = stage
        self._user = stage.user(user)

    def create(self) -> Work:
        return self._work("POST", "", codec.to_json(pod(named(COUNT_MARK))))

    def get(self, name: str) -> Work:
        return self._work("GET", f"/{name}")

    def list(self, *, resource_version: str = "", accept: str = "application/json") -> Work:
        return self._work("GET", f"?resourceVersion={resource_version}" if resource_version else "", accept=accept)

    def _work(self, verb: str, rest: str, body: bytes = b"", accept: str = "application/json") -> Work:
        head = (
            f"{verb} /api/v1/namespaces/default/pods{rest} HTTP/1.1\r\nHost: {self._stage.https}\r\n"
            f"User-Agent: kubectl/v1.32.0\r\nAccept: {accept}\r\n"
        )
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return Work(self._stage.https, self._user, "", pieces(head.encode() + b"\r\n" + body))


def floor(stage: Stage, method: str, like: Work, *, wide: bool = False) -> Work:
    """The same request to the floor's server."""
    server = stage.wide_floor if wide else stage.floor
    return Work(server.address, stage.user(), f"/bench.Floor/{method}", like.pieces)
