"""A pod speaks to the API server as its service account, with the files that every client looks for."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiller import Cluster, docker

FILES = "/var/run/secrets/kubernetes.io/serviceaccount"
# What a client library does: the Service's address and the three files, nothing else.
ASK = f"""
printf 'GET /api/v1/namespaces/%s/configmaps/kube-root-ca.crt HTTP/1.1\\r\\nHost: kubernetes\\r\\n' "$(cat {FILES}/namespace)" > /tmp/ask
printf 'Authorization: Bearer %s\\r\\nConnection: close\\r\\n\\r\\n' "$(cat {FILES}/token)" >> /tmp/ask
(cat /tmp/ask; sleep 1) | openssl s_client -quiet -verify_return_error -verify_hostname kubernetes.default.svc \\
  -CAfile {FILES}/ca.crt -connect $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT
"""  # noqa: E501

ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{run: {name}}}}}
spec:
  {more}
  containers: [{{name: c, image: "{image}", imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}}]
"""


@pytest.fixture(scope="module")
def openssl_image(busybox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """busybox with this machine's openssl and the libraries it needs."""
    found = shutil.which("openssl")
    if found is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("openssl")
    linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
    files = [found, *(word for line in linked.splitlines() for word in line.split() if word.startswith("/"))]
    for file in files:
        target = folder / "root" / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(file).resolve(), target)
    (folder / "Dockerfile").write_text(f"FROM {busybox}\nCOPY root /\nENV PATH=/bin:{Path(found).parent}\n")
    tag = f"tillerman-test-openssl:{os.getpid()}"
    build = ["docker", "build", "-q", "-t", tag, str(folder)]
    subprocess.run(build, env={**os.environ, "DOCKER_BUILDKIT": "0"}, check=True, capture_output=True)
    yield tag
    docker("rmi", tag, check=False)


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = new_cluster("account", "--runtime=docker", "--nodes=1")
    cluster.up()
    yield cluster
    cluster.down()


@pytest.mark.docker
def test_a_pod_asks_the_api_server_with_its_token(cluster: Cluster, openssl_image: str) -> None:
    cluster("apply", "-f", "-", stdin=ROLE)
    cluster("apply", "-f", "-", stdin=POD.format(name="asker", image=openssl_image, more=""))
    cluster.wait_ready("run=asker", 1)
    answer = cluster("exec", "asker", "--", "sh", "-c", ASK)
    assert "200 OK" in answer and "BEGIN CERTIFICATE" in answer
    assert cluster("exec", "asker", "--", "cat", f"{FILES}/namespace") == "default"


@pytest.mark.docker
def test_a_pod_that_wants_no_token_gets_none(cluster: Cluster, busybox: str) -> None:
    pod = POD.format(name="quiet", image=busybox, more="automountServiceAccountToken: false")
    cluster("apply", "-f", "-", stdin=pod)
    cluster.wait_ready("run=quiet", 1)
    assert cluster.run("exec", "quiet", "--", "ls", FILES, check=False).returncode != 0


def test_a_pod_whose_account_is_missing_is_refused(cluster: Cluster) -> None:
    pod = POD.format(name="nobody", image="busybox", more="serviceAccountName: ghost")
    refused = cluster.run("apply", "-f", "-", stdin=pod, check=False)
    assert 'error looking up service account default/ghost: serviceaccount "ghost" not found' in refused.stderr
