"""One client's run through a case: requests with what earlier answers taught filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from golden.compare import judged
from replay_server import Answer, Http, Server

JSON = "application/json"
OF_OBJECTS = frozenset({"status", "scale", "finalize", "token", "eviction", "binding", "approval"})
WITHOUT_STORAGE = ("Binding", "Eviction", "TokenRequest")


@dataclass
class Session:
    """``seen``: uid and resourceVersion by an object's path. ``saved``: values that a step asked to keep."""

    server: Server
    http: Http
    seen: dict[str, tuple[str, str]] = field(default_factory=dict)
    saved: dict[str, str] = field(default_factory=dict)

    def filled(self, value: Any) -> Any:
        """{{uid:<path>}}, {{rv:<path>}} and {{name}} replaced."""
        if isinstance(value, dict):
            return {name: self.filled(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        if not isinstance(value, str) or "{{" not in value:
            return value
        value = re.sub(r"\{\{(uid|rv):([^}]+)\}\}", lambda m: self.seen.get(m[2], ("", ""))[m[1] == "rv"], value)
        return re.sub(r"\{\{(\w+)\}\}", lambda m: self.saved.get(m[1], m[0]), value)

    def send(self, step: dict[str, Any]) -> Answer:
        """A recorded request. After one that makes a CustomResourceDefinition, its resources are served."""
        body = self.filled(step.get("body", step.get("request")))
        path = self.filled(step["path"] + ("?" + step["query"] if step.get("query") else ""))
        media_type = step.get("content_type") or (JSON if body is not None else None)
        answer = self.http(
            step["method"],
            path,
            body,
            content_type=media_type,
            accept=step.get("accept"),
            user_agent=step.get("user_agent"),
        )
        self._learn(step["method"], path.partition("?")[0], answer)
        content = answer.content
        if answer.code == 201 and content.get("kind") == "CustomResourceDefinition":
            self.server.wait_for_custom(self.http, content)
        return answer

    def _learn(self, method: str, path: str, answer: Answer) -> None:
        content = answer.content if answer.code < 300 and isinstance(answer.content, dict) else {}
        meta = content.get("metadata") or {}
        if not meta.get("uid") or content["kind"].endswith("List"):
            return
        parent, _, last = path.rpartition("/")
        if last in OF_OBJECTS:
            path = parent
        elif method == "POST":
            path = f"{path}/{meta['name']}"
        self.seen[path] = (meta["uid"], meta.get("resourceVersion", ""))

    def step(self, step: dict[str, Any], where: str) -> tuple[Answer, list[str]]:
        """A request with its recorded answer."""
        answer = self.send(step)
        content = answer.content if isinstance(answer.content, dict) else {}
        if name := step.get("save_rv"):
            self.saved[name] = (content.get("metadata") or {}).get("resourceVersion", "")
        if name := step.get("keep_token"):
            self.saved[name] = (content.get("status") or {}).get("token", "")
        if "result" not in step and answer.code == step["code"]:
            return answer, []
        found = judged(step["code"], step.get("result"), answer.code, answer.content)
        return answer, [where + line for line in found]

    def prepare(self, steps: list[dict[str, Any]]) -> None:
        """A file's setup, or what lies between two pages. Raises AssertionError when the server refuses."""
        for step in steps:
            if "store" in step:
                self.server.compact()
                continue
            answer = self.send(step)
            wanted = step.get("code", 201)
            assert answer.code == wanted, f"setup: {step['method']} {step['path']}: {answer.code} {answer.content}"
