"""What every verb has: the client, the namespace, common options, and one place where failures become messages."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tillerman.client.client import Client

FIELD_MANAGER = "tiller"


@dataclass
class Session:
    """One invocation. `namespace` is what the user or the configuration says, else "default"."""

    client: "Client"
    namespace: str
    explicit_namespace: bool


@asynccontextmanager
async def connect(given: dict[str, Any]) -> AsyncIterator[Session]:
    from tillerman.client.channel import ClientConfig
    from tillerman.client.client import Client

    path = given.get("kubeconfig") or os.environ.get("TILLER_KUBECONFIG")
    config = ClientConfig.load(path, context=given.get("context") or "")
    namespace = given.get("namespace")
    async with Client.from_config(config, field_manager=FIELD_MANAGER) as client:
        yield Session(client, namespace or config.namespace, bool(namespace))


def verb(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Makes a click callback of `async def f(session, **options)`; -n is understood after the verb too."""

    @click.option("-n", "--namespace", help="Namespace to work in.")
    @click.option("--kubeconfig", help="Client configuration.")
    @click.option("--context", help="Context of the client configuration.")
    @click.pass_context
    @wraps(function)
    def callback(*positional: Any, **options: Any) -> None:
        (ctx,) = positional
        namespace, kubeconfig, context = (options.pop(name) for name in ("namespace", "kubeconfig", "context"))
        given = dict(ctx.find_root().obj or {})
        said = {"namespace": namespace, "kubeconfig": kubeconfig, "context": context}
        given |= {name: value for name, value in said.items() if value}

        async def run() -> Any:
            async with connect(given) as session:
                return await function(session, **options)

        result = told(run)
        if isinstance(result, int) and result:
            sys.exit(result)

    return callback


def told(run: Callable[[], Awaitable[Any]]) -> Any:
    """Runs it; a refusal or a failure ends as one message on stderr and exit code 1."""
    from tillerman.api.status import StatusError

    async def main() -> Any:
        return await run()

    try:
        return asyncio.run(main())
    except StatusError as e:
        raise click.exceptions.Exit(tell(e)) from e
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None
    except (ValueError, LookupError) as e:
        raise click.ClickException(str(e.args[0]) if isinstance(e, LookupError) and e.args else str(e)) from e
    except OSError as e:
        raise click.ClickException(str(e)) from e


def tell(error: Any, about: str = "") -> int:
    """Prints a refusal as kubectl does; the exit code to end with."""
    reason = error.reason or "Unknown"
    if error.reason == "ServiceUnavailable" and not error.status.details.ByteSize():
        click.echo(f"error: the API server cannot be reached: {error.message}", err=True)
    elif error.reason == "Invalid":
        click.echo(f"{about}The {error.message.replace(' is invalid: ', ' is invalid: ', 1)}", err=True)
    else:
        click.echo(f"{about}Error from server ({reason}): {error.message}", err=True)
    return 1


def warn(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)
