"""`tiller create`, `run` and `expose`: objects made from arguments, or from manifests with -f."""

import base64
from pathlib import Path
from typing import Any

import click

from tillerman.cli.resolve import Kind, Object, check_manifest, client_of, kind_of, one_ref, read_manifests
from tillerman.cli.session import Session, verb

DRY_RUN = click.option(
    "--dry-run", type=click.Choice(["none", "client", "server"]), default="none", help="Only show what would be made."
)
OUTPUT = click.option("-o", "--output", default="", help="name, json or yaml.")


async def make(session: Session, objects: list[Object], dry_run: str, output: str) -> None:
    """Creates the objects in order and says so of each."""
    for obj in objects:
        kind, obj = await check_manifest(session, "arguments", obj, validate=False)
        await make_one(session, kind, obj, dry_run, output)


async def make_one(session: Session, kind: Kind, obj: Object, dry_run: str, output: str) -> None:
    if dry_run != "client":
        obj = await client_of(session, kind).create(obj, dry_run=dry_run == "server", field_validation="Strict")
    show(kind, obj, "created", output, dry_run)


def show(kind: Kind, obj: Object, done: str, output: str, dry_run: str = "none") -> None:
    """`deployment.apps/web created`, or the object itself with -o."""
    if output in ("", "name"):
        name = f"{kind.qualified}/{obj['metadata'].get('name', '')}"
        suffix = {"client": " (dry run)", "server": " (server dry run)"}.get(dry_run, "")
        click.echo(name if output == "name" else f"{name} {done}{suffix}")
        return
    from tillerman.api.manifest import to_json_text, to_yaml

    if output == "json":
        click.echo(to_json_text(obj))
    elif output == "yaml":
        click.echo(to_yaml(obj), nl=False)
    else:
        raise ValueError(f"unable to match a printer suitable for the output format {output!r}: name, json or yaml")


@click.group(invoke_without_command=True)
@click.option("-f", "--filename", "files", multiple=True, help="File, folder or - with manifests.")
@click.option("-R", "--recursive", is_flag=True)
@click.option("--validate/--no-validate", default=True, help="Refuse unknown fields.")
@DRY_RUN
@OUTPUT
@click.option("-n", "--namespace", help="Namespace to work in.")
@click.pass_context
def create(ctx: click.Context, /, files: tuple[str, ...], namespace: str | None, **options: Any) -> None:
    """Make objects: from manifests with -f, or of a kind by its arguments."""
    if namespace:
        ctx.find_root().obj["namespace"] = namespace
    if files:
        ctx.invoke(from_files, files=files, **options)
    elif ctx.invoked_subcommand is None:
        raise click.UsageError("give -f FILE, or a kind: " + ", ".join(sorted(create.commands)))


@click.command(hidden=True)
@verb
async def from_files(
    session: Session, files: tuple[str, ...], recursive: bool, validate: bool, dry_run: str, output: str
) -> None:
    checked = [
        await check_manifest(session, name, obj, validate=validate)
        for name, obj in read_manifests(files, recursive=recursive)
    ]
    for kind, obj in checked:
        await make_one(session, kind, obj, dry_run, output)


def pairs(items: tuple[str, ...], option: str) -> dict[str, str]:
    """key=value arguments as a dict. Raises click.BadParameter."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{item!r} is not KEY=VALUE", param_hint=option)
        found[key] = value
    return found


def object_of(api_version: str, kind: str, name: str, **parts: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **parts}


def container(name: str, image: str, command: tuple[str, ...], port: int | None, env: tuple[str, ...]) -> Object:
    made: Object = {"name": name, "image": image}
    if command:
        made["command"] = list(command)
    if port:
        made["ports"] = [{"containerPort": port}]
    if env:
        made["env"] = [{"name": k, "value": v} for k, v in pairs(env, "--env").items()]
    return made


def image_name(image: str) -> str:
    """A container's name after its image: the last part, without tag and digest."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0].replace("_", "-").replace(".", "-")


@create.command()
@click.argument("name")
@click.argument("command", nargs=-1)
@click.option("--image", "images", multiple=True, required=True)
@click.option("-r", "--replicas", type=int, default=1, show_default=True)
@click.option("--port", type=int)
@DRY_RUN
@OUTPUT
@verb
async def deployment(
    session: Session, name: str, command: tuple[str, ...], images: tuple[str, ...], replicas: int, port: int | None,
    dry_run: str, output: str,
) -> None:  # fmt: skip
    """Pods that are kept running and updated in turn."""
    labels = {"app": name}
    containers = [container(image_name(image), image, command, port, ()) for image in images]
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
    }
    obj = object_of("apps/v1", "Deployment", name, spec=spec)
    obj["metadata"]["labels"] = labels
    await make(session, [obj], dry_run, output)


@create.command()
@click.argument("name")
@DRY_RUN
@OUTPUT
@verb
async def namespace(session: Session, name: str, dry_run: str, output: str) -> None:
    """A namespace."""
    await make(session, [object_of("v1", "Namespace", name)], dry_run, output)


@create.command()
@click.argument("name")
@DRY_RUN
@OUTPUT
@verb
async def serviceaccount(session: Session, name: str, dry_run: str, output: str) -> None:
    """An identity for pods."""
    await make(session, [object_of("v1", "ServiceAccount", name)], dry_run, output)


def read_files(sources: tuple[str, ...]) -> dict[str, bytes]:
    """[KEY=]PATH arguments: a file's bytes under its name or KEY, or every file of a folder."""
    found: dict[str, bytes] = {}
    for source in sources:
        key, equals, rest = source.partition("=")
        path = Path(rest if equals else source)
        if path.is_dir():
            found |= {f.name: f.read_bytes() for f in sorted(path.iterdir()) if f.is_file()}
        elif path.exists():
            found[key if equals else path.name] = path.read_bytes()
        else:
            raise ValueError(f"error reading {path}: no such file or directory")
    return found


@create.command()
@click.argument("name")
@click.option("--from-literal", "literals", multiple=True, metavar="KEY=VALUE")
@click.option("--from-file", "files", multiple=True, metavar="[KEY=]PATH")
@DRY_RUN
@OUTPUT
@verb
async def configmap(
    session: Session, name: str, literals: tuple[str, ...], files: tuple[str, ...], dry_run: str, output: str
) -> None:
    """Configuration as keys and values."""
    data: dict[str, str] = pairs(literals, "--from-literal")
    binary: dict[str, str] = {}
    for key, content in read_files(files).items():
        try:
            data[key] = content.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(content).decode()
    obj = object_of("v1", "ConfigMap", name)
    if data:
        obj["data"] = data
    if binary:
        obj["binaryData"] = binary
    await make(session, [obj], dry_run, output)


@create.group()
def secret() -> None:
    """Keys and values that are not for everybody: generic, tls, docker-registry."""


@secret.command()
@click.argument("name")
@click.option("--from-literal", "literals", multiple=True, metavar="KEY=VALUE")
@click.option("--from-file", "files", multiple=True, metavar="[KEY=]PATH")
@click.option("--type", "kind", default="Opaque", show_default=True)
@DRY_RUN
@OUTPUT
@verb
async def generic(
    session: Session, name: str, literals: tuple[str, ...], files: tuple[str, ...], kind: str, dry_run: str, output: str
) -> None:
    """From literals and files."""
    content = read_files(files) | {k: v.encode() for k, v in pairs(literals, "--from-literal").items()}
    await make_secret(session, name, kind, content, dry_run, output)


@secret.command()
@click.argument("name")
@click.option("--cert", required=True, type=click.Path(exists=True))
@click.option("--key", required=True, type=click.Path(exists=True))
@DRY_RUN
@OUTPUT
@verb
async def tls(session: Session, name: str, cert: str, key: str, dry_run: str, output: str) -> None:
    """A certificate and its key."""
    content = {"tls.crt": Path(cert).read_bytes(), "tls.key": Path(key).read_bytes()}
    await make_secret(session, name, "kubernetes.io/tls", content, dry_run, output)


@secret.command("docker-registry")
@click.argument("name")
@click.option("--docker-server", default="https://index.docker.io/v1/", show_default=True)
@click.option("--docker-username", required=True)
@click.option("--docker-password", required=True)
@DRY_RUN
@OUTPUT
@verb
async def docker_registry(
    session: Session, name: str, docker_server: str, docker_username: str, docker_password: str, dry_run: str,
    output: str,
) -> None:  # fmt: skip
    """Credentials for pulling images."""
    import json

    auth = base64.b64encode(f"{docker_username}:{docker_password}".encode()).decode()
    entry = {"username": docker_username, "password": docker_password, "auth": auth}
    content = {".dockerconfigjson": json.dumps({"auths": {docker_server: entry}}).encode()}
    await make_secret(session, name, "kubernetes.io/dockerconfigjson", content, dry_run, output)


async def make_secret(
    session: Session, name: str, kind: str, content: dict[str, bytes], dry_run: str, output: str
) -> None:
    data = {k: base64.b64encode(v).decode() for k, v in content.items()}
    await make(session, [object_of("v1", "Secret", name, type=kind, data=data)], dry_run, output)


@create.command()
@click.argument("name")
@click.argument("command", nargs=-1)
@click.option("--image", required=True)
@DRY_RUN
@OUTPUT
@verb
async def job(session: Session, name: str, command: tuple[str, ...], image: str, dry_run: str, output: str) -> None:
    """Pods that run to an end."""
    template = {"spec": {"restartPolicy": "Never", "containers": [container(name, image, command, None, ())]}}
    await make(session, [object_of("batch/v1", "Job", name, spec={"template": template})], dry_run, output)


@create.command()
@click.argument("name")
@click.argument("command", nargs=-1)
@click.option("--image", required=True)
@click.option("--schedule", required=True, help='As cron writes it: "*/5 * * * *".')
@DRY_RUN
@OUTPUT
@verb
async def cronjob(
    session: Session, name: str, command: tuple[str, ...], image: str, schedule: str, dry_run: str, output: str
) -> None:
    """Jobs on a schedule."""
    pod = {"restartPolicy": "OnFailure", "containers": [container(name, image, command, None, ())]}
    spec = {"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    await make(session, [object_of("batch/v1", "CronJob", name, spec=spec)], dry_run, output)


@create.group()
def service() -> None:
    """One address for many pods: clusterip, nodeport, loadbalancer, externalname."""


def service_command(kind: str, summary: str) -> None:
    @service.command(kind.lower(), help=summary)
    @click.argument("name")
    @click.option("--tcp", "ports", multiple=True, metavar="PORT[:TARGETPORT]")
    @click.option("--clusterip", "cluster_ip", default="", help='"None" for a headless Service.')
    @click.option("--node-port", type=int)
    @click.option("--external-name", default="")
    @DRY_RUN
    @OUTPUT
    @verb
    async def command(
        session: Session, name: str, ports: tuple[str, ...], cluster_ip: str, node_port: int | None,
        external_name: str, dry_run: str, output: str,
    ) -> None:  # fmt: skip
        spec: Object = {"type": kind, "selector": {"app": name}, "ports": [port_of(p, node_port) for p in ports]}
        if cluster_ip:
            spec["clusterIP"] = cluster_ip
        if external_name:
            spec["externalName"] = external_name
        obj = object_of("v1", "Service", name, spec={k: v for k, v in spec.items() if v})
        obj["metadata"]["labels"] = {"app": name}
        await make(session, [obj], dry_run, output)


def port_of(text: str, node_port: int | None) -> Object:
    port, _, target = text.partition(":")
    if not port.isdigit():
        raise click.BadParameter(f"{text!r} is not PORT[:TARGETPORT]", param_hint="--tcp")
    made: Object = {"name": text.replace(":", "-"), "port": int(port), "protocol": "TCP"}
    made["targetPort"] = int(target) if target.isdigit() else target or int(port)
    if node_port:
        made["nodePort"] = node_port
    return made


for kind, summary in (
    ("ClusterIP", "Reachable in the cluster."),
    ("NodePort", "Reachable on a port of every node."),
    ("LoadBalancer", "Reachable from outside on an address of its own."),
    ("ExternalName", "A name for something outside."),
):
    service_command(kind, summary)


@click.command()
@click.argument("name")
@click.argument("command", nargs=-1)
@click.option("--image", required=True)
@click.option("--port", type=int)
@click.option("--env", multiple=True, metavar="KEY=VALUE")
@click.option("-l", "--labels", default="", metavar="KEY=VALUE,…")
@click.option("--restart", type=click.Choice(["Always", "OnFailure", "Never"]), default="Always", show_default=True)
@click.option("--command", "as_command", is_flag=True, help="The arguments replace the entrypoint, too.")
@click.option("--overrides", default="", help="JSON that is merged over the pod.")
@DRY_RUN
@OUTPUT
@verb
async def run(
    session: Session, name: str, command: tuple[str, ...], image: str, port: int | None, env: tuple[str, ...],
    labels: str, restart: str, as_command: bool, overrides: str, dry_run: str, output: str,
) -> None:  # fmt: skip
    """Run one pod."""
    import json

    made = container(name, image, (), port, env)
    if command:
        made["command" if as_command else "args"] = list(command)
    obj = object_of("v1", "Pod", name, spec={"containers": [made], "restartPolicy": restart})
    obj["metadata"]["labels"] = pairs(tuple(labels.split(",")), "--labels") if labels else {"run": name}
    if overrides:
        try:
            obj = merged(obj, json.loads(overrides))
        except ValueError as e:
            raise click.BadParameter(str(e), param_hint="--overrides") from e
    await make(session, [obj], dry_run, output)


def merged(base: Any, over: Any) -> Any:
    """A JSON merge patch applied."""
    if not isinstance(over, dict):
        return over
    out = dict(base) if isinstance(base, dict) else {}
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--port", type=int, help="The Service's port; else the container's.")
@click.option("--target-port", default="")
@click.option("--name", default="", help="The Service's name; else the object's.")
@click.option("--type", "kind", type=click.Choice(["ClusterIP", "NodePort", "LoadBalancer"]), default="ClusterIP")
@click.option("--protocol", default="TCP", show_default=True)
@click.option("-l", "--selector", default="")
@DRY_RUN
@OUTPUT
@verb
async def expose(
    session: Session, words: tuple[str, ...], port: int | None, target_port: str, name: str, kind: str, protocol: str,
    selector: str, dry_run: str, output: str,
) -> None:  # fmt: skip
    """Put a Service before a deployment, replica set, pod or service."""
    ref = await one_ref(session, words)
    found = await client_of(session, ref.kind).get(ref.name, session.namespace)
    labels = pairs(tuple(selector.split(",")), "--selector") if selector else selector_of(found)
    if not labels:
        raise ValueError(f"couldn't find a selector to expose: {ref} has none; give --selector")
    numbers = [port] if port else ports_of(found)
    if not numbers:
        raise ValueError("couldn't find port via --port flag or introspection: give --port")
    target: Any = int(target_port) if target_port.isdigit() else target_port
    entries = [
        {"port": n, "protocol": protocol, "targetPort": target or n}
        | ({"name": f"port-{i + 1}"} if numbers[1:] else {})
        for i, n in enumerate(numbers)
    ]
    obj = object_of("v1", "Service", name or ref.name, spec={"type": kind, "selector": labels, "ports": entries})
    if own := found["metadata"].get("labels"):
        obj["metadata"]["labels"] = own
    service_kind = await kind_of(session, obj)
    obj["metadata"]["namespace"] = session.namespace
    if dry_run != "client":
        obj = await client_of(session, service_kind).create(obj, dry_run=dry_run == "server")
    show(service_kind, obj, "exposed", output, dry_run)


def selector_of(obj: Object) -> dict[str, str]:
    if obj["kind"] == "Pod":
        labels: dict[str, str] = obj["metadata"].get("labels") or {}
        return labels
    selector = obj.get("spec", {}).get("selector") or {}
    found: dict[str, str] = selector.get("matchLabels", {}) if "matchLabels" in selector else selector
    return {} if "matchExpressions" in selector else found


def ports_of(obj: Object) -> list[int]:
    spec = obj.get("spec", {})
    if obj["kind"] == "Service":
        return [p["port"] for p in spec.get("ports", [])]
    pod = spec.get("template", {}).get("spec", {}) if "template" in spec else spec
    return [p["containerPort"] for c in pod.get("containers", []) for p in c.get("ports", [])]
