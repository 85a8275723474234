"""kr8s, the asynchronous Python client: objects, watches, logs, exec and port-forward."""

import asyncio
import contextlib
from typing import Any

import httpx
import kr8s
import kr8s.asyncio
from kr8s.asyncio.objects import ConfigMap, Deployment, Pod
from kubectl import Kubectl


def tour(k: Kubectl) -> None:
    asyncio.run(asyncio.wait_for(_tour(k), 180))


async def _tour(k: Kubectl) -> None:
    api = await kr8s.asyncio.api(kubeconfig=str(k.kubeconfig), namespace=k.namespace)
    assert (await api.version())["major"] == "1"
    assert any(kind["name"] == "deployments" for kind in await api.api_resources())
    await _objects(api, k)
    await _watches(api, k)
    await _workload(api, k)
    await _pod(api, k)
    await _brief(api, k)


def _map(k: Kubectl, name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": k.namespace}, "data": data}


async def _objects(api: Any, k: Kubectl) -> None:
    settings = await ConfigMap(_map(k, "settings", a="1"), api=api)
    await settings.create()
    assert await settings.exists()
    await settings.patch({"data": {"b": "2"}})
    assert dict(settings.data) == {"a": "1", "b": "2"}
    await settings.patch([{"op": "remove", "path": "/data/a"}], type="json")
    assert dict(settings.data) == {"b": "2"}
    await settings.label(kept="yes")
    await settings.annotate(why="because")
    found = [item async for item in api.get("configmaps", namespace=k.namespace, label_selector="kept=yes")]
    assert [item.name for item in found] == ["settings"]
    again = await ConfigMap.get("settings", namespace=k.namespace, api=api)
    assert again.annotations["why"] == "because"
    await settings.delete()
    await settings.wait("delete", timeout=30)
    try:
        await ConfigMap.get("settings", namespace=k.namespace, api=api, timeout=1)
        raise AssertionError("it is still there")
    except kr8s.NotFoundError:
        pass


async def _watches(api: Any, k: Kubectl) -> None:
    await (await ConfigMap(_map(k, "watched", a="1"), api=api)).create()
    seen = []
    watch = api.watch("configmaps", namespace=k.namespace, field_selector="metadata.name=watched")
    async with contextlib.aclosing(watch) as changes:
        async for kind, item in changes:
            seen.append((kind, dict(item.data)))
            if kind == "ADDED":
                await item.patch({"data": {"a": "2"}})
            elif kind == "MODIFIED":
                await item.delete()
            else:
                break
    assert seen == [("ADDED", {"a": "1"}), ("MODIFIED", {"a": "2"}), ("DELETED", {"a": "2"})]


async def _workload(api: Any, k: Kubectl) -> None:
    container = {"name": "c", "image": k.image, "command": ["sleep", "1000"]}
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    deployment = await Deployment({"metadata": {"name": "web", "namespace": k.namespace}, "spec": spec}, api=api)
    await deployment.create()
    await deployment.scale(2)
    await deployment.wait("condition=Available", timeout=60)
    await deployment.wait("jsonpath='{.status.readyReplicas}'=2", timeout=60)
    assert len(await deployment.pods()) == 2
    await deployment.delete(propagation_policy="Foreground")
    await deployment.wait("delete", timeout=60)


async def _brief(api: Any, k: Kubectl) -> None:
    """A log that is followed from before the first line to the end."""
    command = ["sh", "-c", "for n in 1 2 3; do sleep 1; echo line $n; done"]
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": k.image, "command": command}]}
    pod = await Pod({"metadata": {"name": "brief", "namespace": k.namespace}, "spec": spec}, api=api)
    await pod.create()
    await pod.wait("condition=Ready", timeout=60)
    assert [line async for line in pod.logs(follow=True)] == ["line 1", "line 2", "line 3"]
    await pod.wait("jsonpath='{.status.phase}'=Succeeded", timeout=30)


async def _pod(api: Any, k: Kubectl) -> None:
    command = ["sh", "-c", "for n in 1 2 3; do echo line $n; done; exec httpd -f -p 8080 -h /bin"]
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": k.image, "command": command}],
    }
    pod = await Pod({"metadata": {"name": "served", "namespace": k.namespace}, "spec": spec}, api=api)
    await pod.create()
    await pod.wait("condition=Ready", timeout=60)
    done = await pod.exec(["sh", "-c", "echo out; echo err >&2; exit 7"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)
    async with pod.portforward(8080) as port, httpx.AsyncClient(timeout=20) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/missing")).status_code == 404
        whole = await client.get(f"http://127.0.0.1:{port}/busybox")
        assert whole.status_code == 200 and whole.content.startswith(b"\x7fELF")
    assert [line async for line in pod.logs()] == ["line 1", "line 2", "line 3"]
    await pod.delete(grace_period=0)
    await pod.wait("delete", timeout=30)
