"""`tiller up`, `down`, `status` and `kubeconfig`."""

import sys
from typing import Any

import click

from tillerman.cluster.layout import DEFAULT_NAME, Plan, default_name, home, state_dir


def name_option(function: Any) -> Any:
    return click.option("--name", default=default_name, show_default=DEFAULT_NAME, help="Name of the local cluster.")(
        function
    )


def read_plan(name: str) -> Plan:
    try:
        return Plan.read(state_dir(name))
    except FileNotFoundError:
        raise click.ClickException(f"there is no cluster {name!r} in {home()}; `tiller up` starts one") from None


@click.command()
@name_option
@click.option(
    "--runtime", type=click.Choice(["auto", "docker", "process", "hollow"]), default="auto", show_default=True
)
@click.option("--nodes", type=click.IntRange(1, 100), default=2, show_default=True, help="How many worker nodes.")
@click.option("--proxy-mode", type=click.Choice(["auto", "nftables", "userspace"]), default="auto", show_default=True)
@click.option("--port", "ports", multiple=True, metavar="PURPOSE=PORT", help="A fixed port, such as apiserver=7443.")
@click.option("--process-image-path", default="", help="Folders that hold images of the process runtime.")
@click.option("--log-level", default="info", show_default=True)
@click.option("--wait", "wait_seconds", default=60.0, show_default=True, help="Seconds to wait for the nodes.")
def up(ports: tuple[str, ...], **given: Any) -> None:
    """Start a cluster on this machine."""
    from tillerman.cluster import up as starting

    chosen = {}
    for item in ports:
        purpose, _, port = item.partition("=")
        if not port.isdigit():
            raise click.BadParameter(f"{item!r} is not PURPOSE=PORT", param_hint="--port")
        chosen[purpose] = int(port)
    try:
        plan = starting.up(starting.Options(ports=chosen, **given), click.echo)
    except starting.CannotStart as e:
        raise click.ClickException(str(e)) from e
    folder = state_dir(plan.name)
    click.echo(
        f"API server {plan.grpc_endpoint} (gRPC), runtime {plan.runtime}, proxy {plan.proxy_mode}; files in {folder}"
    )


@click.command()
@name_option
@click.option("--keep-data", is_flag=True, help="Keep etcd's data and the certificates for the next `tiller up`.")
def down(name: str, keep_data: bool) -> None:
    """Stop the cluster and remove everything it made."""
    from tillerman.cluster.down import down as take_down

    if take_down(name, lambda text: click.echo(text, err=True), keep_data=keep_data):
        click.echo(f"Cluster {name} is down; nothing of it is left." if not keep_data else f"Cluster {name} is down.")
    else:
        click.echo(f"There is no cluster {name}.")


@click.command()
@name_option
def status(name: str) -> None:
    """Show the processes of the cluster, its endpoints and where its files are."""
    from tillerman.cluster.processes import running

    plan, folder = read_plan(name), state_dir(name)
    alive = running(folder / "run")
    click.echo(f"cluster      {plan.name}  ({plan.runtime} runtime, {plan.proxy_mode} proxy)")
    click.echo(f"grpc         {plan.grpc_endpoint}")
    click.echo(f"etcd         {plan.etcd_endpoint}")
    files = ("ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key")
    click.echo(f"etcd files   {' '.join(str(folder / 'pki' / f) for f in files)}")
    click.echo(f"kubeconfig   {folder}/kubeconfig")
    click.echo(f"prometheus   {folder}/prometheus.yml")
    click.echo(f"logs         {folder}/logs")
    for process in ["supervisor", *(p.name for p in plan.processes)]:
        state = f"running, pid {alive[process].pid}" if process in alive else "not running"
        click.echo(f"{process:<26} {state}")
    if len(alive) <= len(plan.processes):
        sys.exit(1)


@click.command()
@name_option
@click.option("--path", is_flag=True, help="Print the file's name, not its content.")
def kubeconfig(name: str, path: bool) -> None:
    """Print the administrator's kubeconfig."""
    read_plan(name)
    file = state_dir(name) / "kubeconfig"
    click.echo(str(file) if path else file.read_text(), nl=path)
