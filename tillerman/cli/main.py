"""The entry point of `tiller`: verbs by name, loaded when they are used, so that `tiller get` starts fast."""

import gc
import importlib
import sys
from typing import Any

import click

# verb -> "module:attribute"; the order is that of the help text.
VERBS = {
    "up": "tillerman.cluster.commands:up",
    "down": "tillerman.cluster.commands:down",
    "status": "tillerman.cluster.commands:status",
    "kubeconfig": "tillerman.cluster.commands:kubeconfig",
    "create": "tillerman.cli.create:create",
    "run": "tillerman.cli.create:run",
    "expose": "tillerman.cli.create:expose",
    "apply": "tillerman.cli.apply:apply",
    "replace": "tillerman.cli.apply:replace",
    "delete": "tillerman.cli.apply:delete",
    "diff": "tillerman.cli.apply:diff",
    "get": "tillerman.cli.get:get",
    "describe": "tillerman.cli.describe:describe",
    "events": "tillerman.cli.events:events",
    "explain": "tillerman.cli.explain:explain",
    "scale": "tillerman.cli.change:scale",
    "set": "tillerman.cli.change:set_",
    "autoscale": "tillerman.cli.change:autoscale",
    "patch": "tillerman.cli.change:patch",
    "edit": "tillerman.cli.change:edit",
    "label": "tillerman.cli.change:label",
    "annotate": "tillerman.cli.change:annotate",
    "rollout": "tillerman.cli.rollout:rollout",
    "wait": "tillerman.cli.nodes:wait",
    "logs": "tillerman.cli.streams:logs",
    "exec": "tillerman.cli.streams:exec_",
    "attach": "tillerman.cli.streams:attach",
    "port-forward": "tillerman.cli.streams:port_forward",
    "top": "tillerman.cli.top:top",
    "why": "tillerman.cli.nodes:why",
    "cordon": "tillerman.cli.nodes:cordon",
    "uncordon": "tillerman.cli.nodes:uncordon",
    "drain": "tillerman.cli.nodes:drain",
    "taint": "tillerman.cli.nodes:taint",
    "api-resources": "tillerman.cli.server_info:api_resources",
    "version": "tillerman.cli.server_info:version",
    "cluster-info": "tillerman.cli.server_info:cluster_info",
    "completion": "tillerman.cli.completion:completion",
}
GLOBAL_OPTIONS_WITH_VALUE = ("-n", "--namespace", "--kubeconfig", "--context")


class Verbs(click.Group):
    """Imports a verb's module when the verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = VERBS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-n", "--namespace", help="Namespace to work in.")
@click.option("--kubeconfig", help="Client configuration; else $TILLER_KUBECONFIG, $KUBECONFIG, the local cluster's.")
@click.option("--context", help="Context of the client configuration.")
@click.pass_context
def tiller(ctx: click.Context, namespace: str | None, kubeconfig: str | None, context: str | None) -> None:
    """Speaks to a Tillerman cluster, and runs one on this machine."""
    ctx.obj = {"namespace": namespace, "kubeconfig": kubeconfig, "context": context}


def main(argv: list[str] | None = None) -> Any:
    # A command is over before there is garbage worth collecting; importing is a fifth faster without looking for it.
    gc.set_threshold(100_000, 50, 50)
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return tiller.main(args=arguments, prog_name="tiller", standalone_mode=False) or 0
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.UsageError as e:
        e.show()
        sys.exit(1)
    except click.ClickException as e:
        click.echo(f"error: {e.format_message()}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
