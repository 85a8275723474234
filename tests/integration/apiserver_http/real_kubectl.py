"""kubectl as the tests run it."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Kubectl:
    """Runs kubectl as one user. ``url``: the front's address."""

    url: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def tls(self) -> ssl.SSLContext:
        """For other clients, as the same user."""
        user = self._configuration()["users"][0]["user"]
        context = self.anonymous_tls()
        context.load_cert_chain(user["client-certificate"], user["client-key"])
        return context

    def anonymous_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(
            cafile=self._configuration()["clusters"][0]["cluster"]["certificate-authority"]
        )

    def _configuration(self) -> Any:
        return yaml.safe_load((self.folder / "kubeconfig").read_text())

    async def start(self, *args: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "kubectl",
            f"--kubeconfig={self.folder / 'kubeconfig'}",
            f"--cache-dir={self.folder / 'cache'}",
            *args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(self.folder), **self.environment},
        )

    async def run(self, *args: str, stdin: str = "") -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        process = await self.start(*args)
        out, err = await process.communicate(stdin.encode())
        return process.returncode or 0, out.decode(), err.decode()

    async def __call__(self, *args: str, stdin: str = "") -> str:
        """stdout of a command that must succeed."""
        code, out, err = await self.run(*args, stdin=stdin)
        assert code == 0, f"kubectl {' '.join(args)}: {code}\n{out}\n{err}"
        return out
