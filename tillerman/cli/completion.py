"""`tiller completion bash|zsh|fish`: the script that teaches a shell to complete tiller's verbs and options."""

import click
from click.shell_completion import get_completion_class

from tillerman.api.scheme import SCHEME

HOW = {
    "bash": "source <(tiller completion bash)",
    "zsh": "source <(tiller completion zsh)",
    "fish": "tiller completion fish | source",
}


@click.command()
@click.argument("shell", type=click.Choice(list(HOW)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script; load it with `source <(tiller completion bash)`."""
    found = get_completion_class(shell)
    assert found is not None
    root = ctx.find_root()
    click.echo(f"# {HOW[shell]}")
    click.echo(found(root.command, {}, "tiller", "_TILLER_COMPLETE").source())


def resource_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Resource names for an argument, as far as they are typed."""
    words = {word for info in SCHEME.resources() for word in (info.resource, info.singular) if "list" in info.verbs}
    return sorted(word for word in words if word.startswith(incomplete))
