"""The apiserver's speed and memory: all of it with `python -m bench apiserver`, or `python -m bench.apiserver PART …`.

A part is a module with `run(stage, loaders) -> bool`: whether its bars hold.
"""

import importlib
from collections.abc import Sequence

PARTS = ("unary", "lists", "watchers", "fairness")


def main(parts: Sequence[str] = ()) -> int:
    # Imported here: the processes that this package starts need none of it.
    from bench.apiserver.load import loaders
    from bench.apiserver.stage import stage

    if unknown := set(parts) - set(PARTS):
        print(f"no part {', '.join(sorted(unknown))}; there are: {' '.join(PARTS)}")
        return 2
    missed = []
    for name in parts or PARTS:
        print(f"-- {name}", flush=True)
        with stage() as running, loaders() as load:
            if not importlib.import_module(f"bench.apiserver.{name}").run(running, load):
                missed.append(name)
    print(f"bars missed in: {', '.join(missed)}" if missed else "every bar holds", flush=True)
    return 1 if missed else 0
