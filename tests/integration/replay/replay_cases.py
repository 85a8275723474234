"""What each kind of recorded case asks for; every function returns how the server differs, one line each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from golden.compare import differences, judged, same_words, shown
from replay_server import eventually
from replay_session import Session

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def create(session: Session, case: dict[str, Any]) -> list[str]:
    """One write: its answer, the object afterwards, its Table row, and where etcd has it."""
    answer = session.send({**case, "body": case["request"]})
    found = judged(case["code"], case["response"], answer.code, answer.content)
    if found or answer.code != case["code"]:
        return found
    path, after = case["path"].partition("?")[0], case.get("object_after")
    if after or case.get("subresource"):
        path = path.rpartition("/")[0]
    elif case["method"] == "POST":
        path += "/" + answer.content["metadata"]["name"]
    if after:
        now = session.http("GET", path)
        found += [f"after: {line}" for line in judged(after["code"], after["body"], now.code, now.content)]
    if case.get("table"):
        found += _row(case["table"], session.http("GET", path, accept=TABLE).content)
    key = case["etcd_key"]
    if key and not any(same_words(key, stored.decode()) for stored in session.server.stored()):
        found.append(f"nothing is stored under {key}")
    return found


def _row(recorded: dict[str, Any], table: Any) -> list[str]:
    columns = table.get("columnDefinitions") or []
    names = [column["name"] for column in columns]
    wanted = iter(names)
    if not all(name in wanted for name in recorded["columns"]):
        return [f"table: columns {shown(names)}, recorded {shown(recorded['columns'])}"]
    found = []
    cells = dict(zip(names, table["rows"][0]["cells"], strict=True))
    by_name = {column["name"]: column for column in columns}
    for name, kind, priority, cell in zip(
        *(recorded[k] for k in ("columns", "types", "priorities", "cells")), strict=True
    ):
        have = cells[name]
        if name != "Requestor" and not same_words(str(cell), str(have)):
            found.append(f"table: {name} is {shown(have)}, recorded {shown(cell)}")
        type_, _, form = kind.partition("/")
        column = by_name[name]
        if (column["type"], column["format"], column["priority"]) != (type_, form, priority):
            found.append(f"table: column {name} is {shown(column)}, recorded {kind} with priority {priority}")
    return found


def invalid(session: Session, case: dict[str, Any]) -> list[str]:
    """One request that is refused."""
    body = case["request"]
    if fill := case.get("fill"):
        body = json.loads(json.dumps(body).replace(fill["placeholder"], fill["char"] * fill["count"]))
    answer = session.send({**case, "body": body})
    return judged(case["code"], case["status"], answer.code, answer.content)


def lists(session: Session, case: dict[str, Any]) -> list[str]:
    """A list, page by page; with something done after the first page."""
    found: list[str] = []
    token = first_version = ""
    for number, page in enumerate(case["pages"]):
        where = f"page {number + 1}: "
        query = {name: session.saved.get(value, value) for name, value in case["query"].items()}
        if token:
            if page["code"] == 200:
                query = {name: value for name, value in query.items() if not name.startswith("resourceVersion")}
            query["continue"] = token
        path = case["path"] + ("?" + urlencode(query) if query else "")
        answer = session.http("GET", path, accept=case.get("accept"))
        if page["code"] != 200 or answer.code != 200:
            found += [where + line for line in judged(page["code"], page.get("status"), answer.code, answer.content)]
            continue
        content = answer.content
        if "body" in page:
            found += [where + line for line in differences(page["body"], content)]
        meta = content.get("metadata") or {}
        have = {**_page(content, page), "same_resourceVersion_as_first_page": meta["resourceVersion"] == first_version}
        found += [
            f"{where}{name} is {shown(value)}, recorded {shown(page[name])}"
            for name, value in have.items()
            if name in page and page[name] != value
        ]
        token, first_version = meta.get("continue", ""), first_version or meta["resourceVersion"]
        if number == 0:
            session.prepare(case.get("between_pages", []))
    return found


def _page(content: Any, page: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a page."""
    table = content["kind"] == "Table"
    items = [row["object"] for row in content["rows"]] if table else content.get("items") or []
    meta = content["metadata"]
    everywhere = any("/" in name for name in page.get("names", []))
    names = [
        (item["metadata"].get("namespace", "") + "/" if everywhere else "") + item["metadata"]["name"] for item in items
    ]
    return {
        "kind": content["kind"],
        "apiVersion": content["apiVersion"],
        "names": sorted(names) if page.get("order_varies") else names,
        "items_is_null": content.get("items") is None,
        "resourceVersion_set": bool(meta.get("resourceVersion")),
        "remainingItemCount": meta.get("remainingItemCount"),
        "continue_set": bool(meta.get("continue")),
        "columns": [c["name"] for c in content.get("columnDefinitions") or [] if c["name"] in page.get("columns", [])],
        "row_object_kind": sorted({item.get("kind", "") for item in items}),
        "first_item_keys": sorted(set(items[0]) & set(page.get("first_item_keys", []))) if items else None,
    }


def patches(session: Session, case: dict[str, Any]) -> list[str]:
    """An object, then patches of it: the answers, and whether resourceVersion and generation moved."""
    made = session.send({"method": "POST", "path": case["path"], "body": case["base"]})
    found = [f"base: {line}" for line in judged(201, case["base_result"], made.code, made.content)]
    if made.code != 201:
        return found
    path = f"{case['path']}/{case['base']['metadata']['name']}"
    for number, step in enumerate(case["steps"]):
        where = f"step {number}: "
        target = path + ("/" + step["subresource"] if step["subresource"] else "")
        if step.get("object_name"):
            target = f"{case['path']}/{step['object_name']}"
        before = session.http("GET", path).content["metadata"]
        answer = session.send({**step, "method": "PATCH", "path": target, "body": step["patch"]})
        found += [where + line for line in judged(step["code"], step["result"], answer.code, answer.content)]
        now = session.http("GET", path).content
        for moved, name in (("rv_changed", "resourceVersion"), ("generation_changed", "generation")):
            if step[moved] != (before.get(name) != now["metadata"].get(name)):
                found.append(f"{where}{name} {'did not move' if step[moved] else 'moved'}")
        if step.get("object_after") and answer.code == 200:
            found += [f"{where}after: {line}" for line in differences(step["object_after"], now)]
    return found


def steps(session: Session, case: dict[str, Any]) -> list[str]:
    """Requests one after another."""
    for name in case.get("namespaces", []):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        session.prepare([{"method": "POST", "path": "/api/v1/namespaces", "body": namespace, "code": 201}])
    found: list[str] = []
    patience = 0.0
    for number, step in enumerate(case["steps"]):
        where = f"step {number}: "
        if "check" in step:
            found += [where + line for line in _settled(session, case, step["remaining"])]
        elif "wait" in step:
            # What the recorder slept for is waited for.
            patience = PATIENCE_SECONDS
        else:
            patience = patience if step["method"] == "GET" else 0.0
            if patience:
                eventually(lambda step=step: not session.step(step, "")[1], patience)  # type: ignore[misc]
            answer, lines = session.step(_unowned(step) if case.get("controllers") else step, where)
            found += lines
            if step.get("token_decoded") and answer.code == 201:
                found += [where + line for line in _token(step, answer.content["status"]["token"])]
    return found


def _unowned(step: dict[str, Any]) -> dict[str, Any]:
    """Without the status that a controller writes: it speaks of names that were made up."""
    result = step.get("result")
    if not isinstance(result, dict) or result.get("kind") in ("Namespace", "Status"):
        return step
    return {**step, "result": {name: value for name, value in result.items() if name != "status"}}


def _token(step: dict[str, Any], token: str) -> list[str]:
    """A service account token's claims, algorithm and life; audience and life are the server's unless asked for."""
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in token.split(".")[:2]
    )
    recorded = step["token_decoded"]
    wanted = dict(recorded["claims"])
    found = differences({"alg": recorded["header"]["alg"]}, header, "token")
    if ((step.get("body") or {}).get("spec") or {}).get("audiences"):
        if claims["exp"] - claims["iat"] != recorded["exp_minus_iat"]:
            found.append(f"the token lives {claims['exp'] - claims['iat']} s, recorded {recorded['exp_minus_iat']} s")
    else:
        wanted.pop("aud", None)
    return found + differences(wanted, claims, "token")


# -- what the garbage collector leaves ---------------------------------------------------------------------------------

COLLECTED = (
    *(f"api/v1/namespaces/{{}}/{name}" for name in ("configmaps", "secrets", "pods", "replicationcontrollers")),
    *(f"apis/apps/v1/namespaces/{{}}/{name}" for name in ("replicasets", "deployments", "statefulsets")),
    "apis/batch/v1/namespaces/{}/jobs",
    "apis/golden.test/v1/namespaces/{}/gadgets",
)
STILL_SECONDS, PATIENCE_SECONDS = 0.3, 10.0


def _settled(session: Session, case: dict[str, Any], remaining: list[dict[str, Any]]) -> list[str]:
    """Waits until what is left is what was left for the recorder, and stays so."""
    wide = {path for path in session.seen if "/namespaces/" not in path}
    wide |= {item["path"] for item in remaining if item["path"].count("/") <= 4}
    listed = ["/" + path.format(name) for name in case["namespaces"] for path in COLLECTED]
    wanted = sorted(remaining, key=_by_path)

    def differing() -> list[str]:
        return differences(wanted, sorted(_left(session, wide, listed), key=_by_path), "left")

    eventually(lambda: not differing(), 20)
    eventually(lambda: bool(differing()), STILL_SECONDS)
    return differing()


def _by_path(item: dict[str, Any]) -> tuple[str, str]:
    return item["path"], json.dumps(item, sort_keys=True)


def _left(session: Session, wide: set[str], listed: list[str]) -> Iterator[dict[str, Any]]:
    for path in wide:
        answer = session.http("GET", path)
        if answer.code == 200:
            yield _trace(path, answer.content, listed=False)
    for listing in listed:
        answer = session.http("GET", listing)
        for item in answer.content["items"] if answer.code == 200 else []:
            if item["metadata"]["name"] != "kube-root-ca.crt":
                yield _trace(f"{listing}/{item['metadata']['name']}", item, listed=True)


def _trace(path: str, obj: dict[str, Any], *, listed: bool) -> dict[str, Any]:
    """What is recorded of an object that is left."""
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    of_a_set = path.split("/")[-2] == "replicasets" and (meta.get("ownerReferences") or "pod-template-hash" in labels)
    if listed and (meta.get("generateName") or of_a_set):
        path = path.rpartition("/")[0] + "/<generated>"
    trace: dict[str, Any] = {"path": path, "deleting": "deletionTimestamp" in meta}
    # Newer than the recording: Jobs count their pods by it.
    finalizers = [name for name in meta.get("finalizers") or [] if name != "batch.kubernetes.io/job-tracking"]
    if finalizers:
        trace["finalizers"] = finalizers
    if meta.get("ownerReferences"):
        trace["ownerReferences"] = [_owner(reference) for reference in meta["ownerReferences"]]
    if not listed and (obj.get("status") or {}).get("phase"):
        trace |= {"phase": obj["status"]["phase"], "conditions": obj["status"].get("conditions")}
    return trace


def _owner(reference: dict[str, Any]) -> dict[str, Any]:
    """Without the uid, unless the recorder made it up; with no name that a controller made up."""
    kept = {name: value for name, value in reference.items() if name != "uid" or value.startswith("11111111")}
    if kept["kind"] == "ReplicaSet" and "-" in kept["name"]:
        kept["name"] = "<generated>"
    return kept
