"""The controller of docs/extending.md, taken from the page and run against a real API server."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

from real_apiserver import RunningApiserver

from tillerman.api.status import StatusError
from tillerman.client import kubeconfig
from tillerman.pb.k8s import core_v1_pb2 as core

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


async def test_the_controller_of_the_page_works(apiserver: RunningApiserver, tmp_path: Path) -> None:
    script = tmp_path / "pod_counter.py"
    script.write_text(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0])
    config = tmp_path / "kubeconfig"
    kubeconfig.write(config, endpoints=[apiserver.address], insecure=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), "--insecure", f"--kubeconfig={config}", stderr=asyncio.subprocess.PIPE
    )
    try:
        pods = apiserver.client.resource(core.Pod)
        for name in ("count-1", "count-2"):
            pod = core.Pod()
            pod.metadata.name, pod.metadata.namespace = name, "kube-public"
            pod.spec.containers.add(name="c", image="busybox")
            pod = await pods.create(pod)
            pod.status.phase = "Running"
            await pods.update_status(pod)
        await counted(apiserver, "2")
        await pods.delete("count-1", "kube-public", grace_period_seconds=0)
        await counted(apiserver, "1")
        process.terminate()
        async with asyncio.timeout(10):
            _, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        lease: Any = await apiserver.client.dynamic("coordination.k8s.io/v1", "leases", True).get(
            "pod-counter", "kube-system"
        )
        assert not lease["spec"].get("holderIdentity")
    finally:
        if process.returncode is None:
            process.kill()
            _, err = await process.communicate()
            print(err.decode())


async def counted(apiserver: RunningApiserver, running: str) -> None:
    """Waits until the page's ConfigMap says so."""
    maps = apiserver.client.resource(core.ConfigMap)
    async with asyncio.timeout(15):
        while True:
            try:
                if (await maps.get("pod-count", "kube-public")).data["running"] == running:
                    return
            except StatusError as error:
                assert error.reason == "NotFound"
            await asyncio.sleep(0.05)
