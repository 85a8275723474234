"""Who am I, what may I do, impersonation, certificates and tokens."""

import base64
import json
import subprocess

from kubectl import Kubectl, has

ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: NAMESPACE}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
"""
REQUEST = """
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: NAME}
spec: {request: BODY, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}
"""


def tour(k: Kubectl) -> None:
    _whoami(k)
    _may(k)
    _reconciled(k)
    _tokens(k)
    _certificates(k)


def _whoami(k: Kubectl) -> None:
    me = k("auth", "whoami")
    has(me, "Username    kubernetes-admin", "system:masters", "system:authenticated")
    other = k("auth", "whoami", "--as=jane", "--as-group=editors")
    has(other, "Username    jane", "[editors system:authenticated]")
    account = k(
        "auth", "whoami", f"--as=system:serviceaccount:{k.namespace}:default", "-o", "jsonpath={.status.userInfo}"
    )
    has(account, "system:serviceaccounts", f"system:serviceaccounts:{k.namespace}")


def _may(k: Kubectl) -> None:
    k("create", "role", "reader", "--verb=get,list", "--resource=pods,pods/log")
    k("create", "rolebinding", "readers", "--role=reader", "--user=jane", "--group=readers")
    assert k("auth", "can-i", "delete", "nodes").splitlines()[-1] == "yes"
    assert k("auth", "can-i", "list", "pods", "--as=jane") == "yes"
    assert k("auth", "can-i", "get", "pods", "--subresource=log", "--as=jane") == "yes"
    assert k.refused("auth", "can-i", "delete", "pods", "--as=jane") == "no"
    assert k("auth", "can-i", "list", "pods", "--as=joe", "--as-group=readers") == "yes"
    assert k.refused("auth", "can-i", "get", "/metrics", "--as=jane") == "no"
    rows = k("auth", "can-i", "--list", "--as=jane")
    has(
        rows,
        "Resources",
        "Non-Resource URLs",
        "pods/log",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "[/version/]",
    )
    assert [row.split()[-2:] for row in rows.splitlines() if row.startswith("pods ")] == [["[get", "list]"]]
    everything = k("auth", "can-i", "--list")
    assert any(row.split()[:1] == ["*.*"] for row in everything.splitlines())
    assert k("get", "pods", "--as=jane") == ""
    refused = k.refused("get", "secrets", "--as=jane")
    has(refused, "Error from server (Forbidden): secrets is forbidden:", "in the namespace")
    has(refused, 'User "jane" cannot list resource "secrets" in API group ""')


def _reconciled(k: Kubectl) -> None:
    said = k.both("auth", "reconcile", "-f", k.write("role.yaml", ROLE.replace("NAMESPACE", k.namespace)))
    has(said, "role.rbac.authorization.k8s.io/reader reconciled", "missing rules added:", "Resources:[configmaps]")
    assert k("auth", "can-i", "get", "configmaps", "--as=jane") == "yes"


def _tokens(k: Kubectl) -> None:
    k("create", "serviceaccount", "robot")
    k("create", "rolebinding", "robots", "--role=reader", f"--serviceaccount={k.namespace}:robot")
    token = k("create", "token", "robot")
    plain = k.write("bare.kubeconfig", _without_user(k))
    as_robot = [f"--kubeconfig={plain}", f"--token={token}"]
    assert k("get", "pods", *as_robot) == ""
    has(
        k("auth", "whoami", *as_robot),
        f"system:serviceaccount:{k.namespace}:robot",
        "authentication.kubernetes.io/credential-id",
    )
    has(
        k.refused("delete", "pod", "nobody", *as_robot),
        "is forbidden",
        f'User "system:serviceaccount:{k.namespace}:robot"',
    )
    forged = [f"--kubeconfig={plain}", f"--token={token[:-6]}AAAAAA"]
    has(k.refused("get", "pods", *forged), "You must be logged in to the server")
    impersonating = k.refused("get", "pods", "--as=jane", *as_robot)
    has(impersonating, 'users "jane" is forbidden: User "system:serviceaccount:', 'cannot impersonate resource "users"')


def _without_user(k: Kubectl) -> str:
    """The kubeconfig with no client certificate."""
    whole = json.loads(k("config", "view", "--raw", "--minify", "-o", "json"))
    whole["users"][0]["user"] = {}
    return json.dumps(whole)


def _certificates(k: Kubectl) -> None:
    names = [f"{k.namespace}-{suffix}" for suffix in ("yes", "no")]
    for name in names:
        asked = subprocess.run(
            ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=bob"],
            check=True,
            capture_output=True,
        ).stdout
        body = base64.b64encode(asked).decode()
        created = k("create", "-f", "-", stdin=REQUEST.replace("NAME", name).replace("BODY", body))
        assert created == f"certificatesigningrequest.certificates.k8s.io/{name} created"
    has(k("get", "csr", names[0]), "kubernetes-admin", "Pending")
    said = f"certificatesigningrequest.certificates.k8s.io/{names[0]} approved"
    assert k("certificate", "approve", names[0]) == said
    k.eventually("Approved,Issued", "get", "csr", names[0])
    certificate = base64.b64decode(k("get", "csr", names[0], "-o", "jsonpath={.status.certificate}"))
    assert certificate.startswith(b"-----BEGIN CERTIFICATE-----")
    assert k("certificate", "deny", names[1]).endswith("denied")
    has(k("get", "csr", names[1]), "Denied")
    has(k("describe", "csr", names[0]), "Requesting User:    kubernetes-admin", "Common Name:    bob")
    assert len(k("delete", "csr", *names).splitlines()) == 2
