"""The example of docs/custom-resources.md, taken from the page and run against a real API server."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from custom_definitions import gone
from real_apiserver import RunningApiserver

from tillerman.client import kubeconfig
from tillerman.pb.k8s import core_v1_pb2 as core

PAGE = (Path(__file__).parents[3] / "docs" / "custom-resources.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[tuple[list[str], str]]:
    """Each command line of the page, with what it prints."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            found.append((line.split(), output))
    return found


async def tiller(folder: Path, *args: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tillerman.cli.main", f"--kubeconfig={folder / 'kubeconfig'}", *args,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_the_page_is_true(apiserver: RunningApiserver, tmp_path: Path) -> None:
    kubeconfig.write(tmp_path / "kubeconfig", endpoints=[apiserver.address], insecure=True)
    definition, greeting = blocks("yaml")
    (tmp_path / "definition.yaml").write_text(definition)
    (tmp_path / "greeting.yaml").write_text(greeting)
    (tmp_path / "greeter.py").write_text(blocks("python")[0])
    *before, (last, said_last) = commands()
    for (program, *args), output in before:
        assert program == "tiller"
        assert (await tiller(tmp_path, *args)).strip() == output.strip()

    greeter = await asyncio.create_subprocess_exec(
        sys.executable, "greeter.py", "--insecure", f"--kubeconfig={tmp_path / 'kubeconfig'}",
        cwd=tmp_path, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        greetings = apiserver.client.dynamic("example.dev/v1", "greetings", True)
        await said(apiserver, 1)
        await greetings.patch("hello", "default", {"spec": {"times": 2}})
        await said(apiserver, 2)
        words = await apiserver.client.resource(core.ConfigMap).get("hello", "default")
        assert words.data["words"] == "Hello world! Hello world!"
        assert "hello   world   2" in await tiller(tmp_path, "get", "greetings")
    finally:
        greeter.terminate()
        async with asyncio.timeout(10):
            _, err = await greeter.communicate()
    assert greeter.returncode == 0, err.decode()
    assert (await tiller(tmp_path, *last[1:])).strip() == said_last.strip()
    await gone(apiserver.client, "greetings.example.dev")


async def said(apiserver: RunningApiserver, times: int) -> None:
    """Until the controller has told so in the status."""
    greetings = apiserver.client.dynamic("example.dev/v1", "greetings", True)
    async with asyncio.timeout(20):
        async for event in greetings.watch("default"):
            if event.object.get("status") == {"said": times}:
                return
