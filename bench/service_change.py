"""A changed EndpointSlice live in the data path, p99, over the real control plane.

A Service's only endpoint moves between two servers, again and again. A change counts from the API call until a
connection to the cluster IP reaches the new server. The floor, taken in the same run: the API's own share, from the
call until a watch tells of the change. Kubernetes publishes 6.8 s for kube-proxy (p99).
"""

import asyncio
import statistics
import time

from bench.local import Local, cluster
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

CHANGES = 200
BAR_SECONDS = 0.25
SERVERS = {"a": "127.0.0.2", "b": "127.0.0.3"}
BALLAST = 500


def main() -> None:
    with cluster("--runtime=hollow", "--nodes=1", "--proxy-mode=nftables") as local:
        live, told = asyncio.run(measure(local))
    p99, floor = quantile(live), quantile(told)
    print(
        f"service change live in the data path, {BALLAST} other Services: p50 {statistics.median(live) * 1000:.1f} ms, "
        f"p99 {p99 * 1000:.1f} ms; told by a watch p99 {floor * 1000:.1f} ms; ratio {p99 / floor:.2f} "
        f"(bar: p99 <= {BAR_SECONDS * 1000:.0f} ms)",
        flush=True,
    )


def quantile(samples: list[float]) -> float:
    return sorted(samples)[int(len(samples) * 0.99) - 1]


async def serve(name: str, address: str) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode())
        writer.close()

    return await asyncio.start_server(answer, address, 18080)


async def ask(address: str) -> str:
    reader, writer = await asyncio.open_connection(address, 80)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


def service(name: str) -> core.Service:
    made = core.Service()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.spec.type = "ClusterIP"
    made.spec.ports.add(port=80, protocol="TCP")
    return made


def endpoint_slice(service_name: str, address: str) -> discovery.EndpointSlice:
    made = discovery.EndpointSlice(addressType="IPv4")
    made.metadata.name, made.metadata.namespace = f"{service_name}-1", "default"
    made.metadata.labels["kubernetes.io/service-name"] = service_name
    made.endpoints.add(addresses=[address]).conditions.ready = True
    made.ports.add(name="", protocol="TCP", port=18080)
    return made


async def measure(local: Local) -> tuple[list[float], list[float]]:
    """Seconds until live, and until a watch told, of every change."""
    servers = [await serve(name, address) for name, address in SERVERS.items()]
    async with local.client() as client:
        services, slices = client.resource(core.Service), client.resource(discovery.EndpointSlice)
        for i in range(BALLAST):
            await services.create(service(f"ballast-{i}"))
        cluster_ip = (await services.create(service("live"))).spec.clusterIP
        present = await slices.create(endpoint_slice("live", SERVERS["a"]))
        await until_reached(cluster_ip, "a")
        told_at: dict[str, float] = {}
        watching = asyncio.create_task(follow(slices, present.metadata.resourceVersion, told_at))
        live, told = [], []
        for i in range(CHANGES):
            name = "ba"[i % 2]
            present.endpoints[0].addresses[0] = SERVERS[name]
            began = time.perf_counter()
            present = await slices.update(present)
            await until_reached(cluster_ip, name)
            live.append(time.perf_counter() - began)
            while present.metadata.resourceVersion not in told_at:  # noqa: ASYNC110 - the watch is as good as there
                await asyncio.sleep(0.0005)
            told.append(told_at[present.metadata.resourceVersion] - began)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    for server in servers:
        server.close()
    return live, told


async def until_reached(cluster_ip: str, name: str) -> None:
    while True:
        try:
            if await ask(cluster_ip) == name:
                return
        except OSError:
            pass
        await asyncio.sleep(0.0005)


async def follow(slices: object, revision: str, told_at: dict[str, float]) -> None:
    async for event in slices.watch("default", resource_version=revision):  # type: ignore[attr-defined]
        told_at[event.object.metadata.resourceVersion] = time.perf_counter()


if __name__ == "__main__":
    main()
