"""The webhook of docs/admission.md, as a process of its own: it works as told, and its death is noticed."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_apiserver import free_port, wait_for_port

from tillerman.api import codec
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.k8s import admissionregistration_v1_pb2 as registration
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.service import pki

PAGE = Path(__file__).resolve().parents[2] / "docs" / "admission.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[tuple[int, bytes, subprocess.Popen[bytes]]]:
    """(port, CA, process)"""
    script = tmp_path / "webhook.py"
    script.write_text(block("python"))
    ca = pki.make_ca("webhooks")
    ca_file, _ = ca.write(tmp_path)
    certificate, key = pki.issue(ca, "webhook", (), ["127.0.0.1"]).write(tmp_path, "webhook")
    port = free_port()
    process = subprocess.Popen([sys.executable, str(script), str(port), str(certificate), str(key)])
    try:
        wait_for_port(port)
        yield port, ca_file.read_bytes(), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


@pytest.fixture
async def space(client: Client) -> AsyncIterator[str]:
    namespace = core.Namespace()
    namespace.metadata.generateName = "example-"
    namespace.metadata.labels["notes"] = "on"
    made = await client.resource(core.Namespace).create(namespace)
    try:
        yield made.metadata.name
    finally:
        await client.resource(registration.MutatingWebhookConfiguration).delete_collection()


async def test_the_example_works_and_its_death_is_noticed(
    webhook: tuple[int, bytes, subprocess.Popen[bytes]], client: Client, space: str
) -> None:
    port, bundle, process = webhook
    content = yaml.safe_load(block("yaml"))
    where = {"url": f"https://127.0.0.1:{port}/", "caBundle": base64.b64encode(bundle).decode()}
    content["webhooks"][0]["clientConfig"] = where
    configuration: Any = codec.from_dict(content)
    configurations = client.resource(registration.MutatingWebhookConfiguration)
    await configurations.create(configuration)
    maps = client.resource(core.ConfigMap)

    async def create(name: str, **labels: str) -> core.ConfigMap:
        obj = core.ConfigMap()
        obj.metadata.name, obj.metadata.namespace = name, space
        obj.metadata.labels.update(labels)
        return await maps.create(obj)

    assert (await create("one")).metadata.annotations["example.com/by"]
    with pytest.raises(StatusError) as refused:
        await create("two", frozen="yes")
    assert refused.value.message == (
        'admission webhook "notes.example.com" denied the request: frozen things stay as they are'
    )
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(StatusError, match=r'failed calling webhook "notes\.example\.com": failed to call webhook'):
        await create("three")
    patch = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
    await configurations.patch("notes", None, patch, type="json")
    assert not (await create("three")).metadata.annotations
