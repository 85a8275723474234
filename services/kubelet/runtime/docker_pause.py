"""The sandbox image, made here so that no registry is needed: one static program of about a hundred bytes of code.

It blocks all signals and waits for them: it ends on SIGTERM or SIGINT, and on SIGCHLD reaps whatever was left to it
(as process 1 of a pod that shares its process namespace).
"""

import hashlib
import io
import json
import struct
import tarfile

# rt_sigprocmask(SIG_SETMASK, all); forever: rt_sigtimedwait(all); 15 or 2: exit(0); 17: wait4(-1, WNOHANG) until none.
_X86_64 = bytes.fromhex(
    "6affbf020000004889e631d241ba08000000b80e0000000f05"
    "4889e731f631d241ba08000000b8800000000f05"
    "83f80f742883f802742383f81175dd"
    "48c7c7ffffffff31f6ba010000004531d2b83d0000000f0585c07fe4ebbf"
    "31ffb83c0000000f05"
)
_AARCH64 = bytes.fromhex(
    "09008092e90f1ff8400080d2e1030091020080d2030180d2e81080d2010000d4"
    "e0030091010080d2020080d2030180d2281180d2010000d4"
    "1f3c0071c00100541f080071800100541f440071a1feff54"
    "00008092010080d2220080d2030080d2882080d2010000d41f0000712cffff54ecffff17"
    "000080d2a80b80d2010000d4"
)
# Docker's name of the architecture: (ELF machine number, code).
_MACHINES = {"x86_64": (62, _X86_64), "amd64": (62, _X86_64), "aarch64": (183, _AARCH64), "arm64": (183, _AARCH64)}
_BASE = 0x400000
_HEADERS = 64 + 56

PAUSE_PATH = "pause"
PAUSE_VERSION = "1"
_CREATED = "1970-01-01T00:00:00Z"


def pause_elf(architecture: str) -> bytes:
    """A static ELF executable. Raises KeyError for an architecture it was not written for."""
    machine, code = _MACHINES[architecture]
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = _HEADERS + len(code)
    # One loadable segment, readable and executable.
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return ident + header + segment + code


def pause_image(architecture: str, name: str) -> bytes:
    """The image as `docker load` takes it. The same bytes every time, so that its id is the same for all kubelets that
    load it, be it at the same moment: an image of another id would be left behind without a name.
    """
    layer = _tar({PAUSE_PATH: (pause_elf(architecture), 0o755)})
    platform = {"x86_64": "amd64", "aarch64": "arm64"}.get(architecture, architecture)
    config = {
        "architecture": platform,
        "os": "linux",
        "created": _CREATED,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": _CREATED}],
    }
    described = json.dumps(config, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(described).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar(
        {
            config_name: (described, 0o644),
            "layer.tar": (layer, 0o644),
            "manifest.json": (json.dumps(manifest).encode(), 0o644),
        }
    )


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    """Of name -> (content, mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
