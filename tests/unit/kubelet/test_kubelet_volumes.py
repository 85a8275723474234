"""Payload volumes: what is in them, and that a reader never sees half of an update."""

from pathlib import Path

import pytest

from services.kubelet.volumes.atomic_writer import write_payload
from services.kubelet.volumes.payload import File, PayloadSources, VolumeError, payload_of, referenced
from tillerman.api.codec import from_dict
from tillerman.pb.k8s import core_v1_pb2 as core


def pod_with(volume: dict[str, object]) -> core.Pod:
    meta = {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"a": "1"}}
    spec = {"containers": [{"name": "c"}], "volumes": [{"name": "v", **volume}]}
    found = from_dict({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    assert isinstance(found, core.Pod)
    return found


def test_a_config_map_whole_and_in_parts() -> None:
    sources = PayloadSources(config_maps={"cm": core.ConfigMap(data={"a": "1", "b": "2"})})
    whole = pod_with({"configMap": {"name": "cm"}})
    assert referenced(whole.spec.volumes[0]) == ({"cm"}, set())
    assert payload_of(whole, whole.spec.volumes[0], sources) == {"a": File(b"1", 0o644), "b": File(b"2", 0o644)}
    items = [{"key": "b", "path": "x/b.txt", "mode": 0o600}]
    part = pod_with({"configMap": {"name": "cm", "items": items}})
    assert payload_of(part, part.spec.volumes[0], sources) == {"x/b.txt": File(b"2", 0o600)}


def test_what_is_missing_is_named_unless_it_is_optional() -> None:
    wanted = pod_with({"secret": {"secretName": "s"}})
    with pytest.raises(VolumeError, match='secret "s" not found'):
        payload_of(wanted, wanted.spec.volumes[0], PayloadSources())
    optional = pod_with({"secret": {"secretName": "s", "optional": True}})
    assert payload_of(optional, optional.spec.volumes[0], PayloadSources()) == {}


def test_projected() -> None:
    parts = [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    pod = pod_with({"projected": {"sources": parts, "defaultMode": 0o400}})
    sources = PayloadSources(config_maps={"ca": core.ConfigMap(data={"ca.crt": "pem"})}, tokens={"token": "t"})
    found = payload_of(pod, pod.spec.volumes[0], sources)
    assert {name: file.data for name, file in found.items()} == {"token": b"t", "ca.crt": b"pem", "namespace": b"shop"}


def test_an_update_swaps_all_files_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert write_payload(folder, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)})
    assert (folder / "a").read_bytes() == b"1" and (folder / "d" / "b").read_bytes() == b"2"
    before = (folder / "..data").resolve()
    assert not write_payload(folder, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)})
    assert write_payload(folder, {"a": File(b"3", 0o644)})
    assert (folder / "a").read_bytes() == b"3" and not (folder / "d").is_symlink()
    assert (folder / "..data").resolve() != before and not before.exists()


@pytest.mark.parametrize("name", ["../x", "/x", "..x", "a/../../b"])
def test_paths_do_not_leave_the_volume(tmp_path: Path, name: str) -> None:
    with pytest.raises(VolumeError):
        write_payload(tmp_path / "v", {name: File(b"", 0o644)})
