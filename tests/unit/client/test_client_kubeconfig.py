import stat
from pathlib import Path

import pytest
import yaml

from tillerman.client import kubeconfig
from tillerman.client.channel import ClientConfig, open_channel, read_pem
from tillerman.client.kubeconfig import ConfigError


def test_written_and_read_back_with_paths(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    for name in ("ca.crt", "me.crt", "me.key"):
        (tmp_path / "pki" / name).write_text(name)
    path = tmp_path / "kubeconfig"
    kubeconfig.write(
        path, endpoints=["127.0.0.1:6442"], server="https://127.0.0.1:6443", ca=tmp_path / "pki" / "ca.crt",
        cert=tmp_path / "pki" / "me.crt", key=tmp_path / "pki" / "me.key", namespace="team",
    )  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = ClientConfig.load(path)
    assert config.servers == ["127.0.0.1:6442"]
    assert config.https_server == "https://127.0.0.1:6443"
    assert config.namespace == "team"
    assert [read_pem(p) for p in (config.ca, config.cert, config.key)] == [b"ca.crt", b"me.crt", b"me.key"]
    assert yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["certificate-authority"] == "pki/ca.crt"


def test_written_and_read_back_embedded(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, endpoints=["a:1", "b:1"], ca=b"CA", token="t0k", insecure=False, server_name="kube")
    config = ClientConfig.load(path)
    assert (config.ca, config.token, config.server_name, config.servers) == (b"CA", "t0k", "kube", ["a:1", "b:1"])
    assert "t0k" not in repr(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "no current-context"),
        ("current-context: x", "no context 'x' under contexts"),
        ("[]", "is not a kubeconfig file"),
        ("a: [", "is not YAML"),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, cluster: {}}]}",
            "cluster 'c' has no gRPC endpoint",
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        ClientConfig.load(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tiller up"):
        ClientConfig.load(tmp_path / "none")


def test_the_default_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = tmp_path / "default" / "kubeconfig"
    local.parent.mkdir()
    local.touch()
    monkeypatch.setenv("TILLERMAN_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert kubeconfig.default_path() == local
    named = tmp_path / "named"
    named.touch()
    monkeypatch.setenv("KUBECONFIG", f"/nowhere:{named}")
    assert kubeconfig.default_path() == named


async def test_a_channel_refuses_to_send_a_token_in_plain_text() -> None:
    with pytest.raises(ValueError, match="plain text"):
        open_channel(ClientConfig(["a:1"], insecure=True, token="x"))
    with pytest.raises(ValueError, match="no server"):
        open_channel(ClientConfig([]))
