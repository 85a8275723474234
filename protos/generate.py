"""Compiles protos/ into tillerman/pb: message modules, gRPC stubs and type stubs.

`python protos/generate.py` writes into the tree; `--check` compiles into a temporary folder and fails, naming the
files, when the tree differs.
"""

import argparse
import filecmp
import os
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("tillerman/pb")


def compile_into(out: Path) -> None:
    """Runs protoc over every .proto; services get gRPC stubs, messages do not."""
    include = str(resources.files("grpc_tools") / "_proto")
    sources = sorted(p.relative_to(PROTOS) for p in (PROTOS / PACKAGE).rglob("*.proto"))
    with_services = [s for s in sources if "\nservice " in (PROTOS / s).read_text()]
    common = ["protoc", f"-I{PROTOS}", f"-I{include}"]
    run([*common, f"--python_out={out}", f"--mypy_out=quiet:{out}", *map(str, sources)])
    run([*common, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *map(str, with_services)])
    for folder in {PACKAGE, *(s.parent for s in sources)}:
        (out / folder / "__init__.py").write_text("")


def run(arguments: list[str]) -> None:
    if code := protoc.main(arguments):
        raise SystemExit(f"protoc failed with {code}")


def differences(fresh: Path, tree: Path) -> list[str]:
    """Paths (relative to the package) that are missing, stale or left over in the tree."""

    def files(base: Path) -> set[Path]:
        return {p.relative_to(base) for p in base.rglob("*") if p.suffix in (".py", ".pyi")}

    both = files(fresh) | files(tree)
    return sorted(
        str(p)
        for p in both
        if not ((fresh / p).exists() and (tree / p).exists() and filecmp.cmp(fresh / p, tree / p, shallow=False))
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when the tree is stale")
    check = parser.parse_args().check
    # protoc finds its plugins on PATH; they are installed beside this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        compile_into(Path(folder))
        fresh, tree = Path(folder) / PACKAGE, ROOT / PACKAGE
        stale = differences(fresh, tree)
        if check:
            for path in stale:
                print(f"stale: {PACKAGE / path}: run `make protos`", file=sys.stderr)
            return 1 if stale else 0
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(fresh, tree)
        print(f"{len(stale)} files changed in {PACKAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
