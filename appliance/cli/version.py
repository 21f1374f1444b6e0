"""The `appliance version` command: versions, build, and the features of kernel and extras."""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path

from appliance import __version__
from appliance.ipc.sockets import library_version as zeromq
from appliance.native.kernel_sandbox import landlock_version
from appliance.pcap.opening import library_version as libpcap

DISTRIBUTION = "capture-appliance"
# Features of an extra or a coding: the modules of which one must be present.
FEATURES = {
    "parquet": ("pyarrow",),
    "forward_nats": ("nats",),
    "forward_kafka": ("confluent_kafka",),
    "coding_br": ("brotli",),
    "coding_zstd": ("compression.zstd", "backports.zstd"),
}
SECCOMP = Path("/proc/sys/kernel/seccomp/actions_avail")
JIT = Path("/proc/sys/net/core/bpf_jit_enable")


def there(module: str) -> bool:
    """Return whether a module could be imported; none is."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def text_of(path: Path) -> str:
    """Return what a file of the kernel says, or "" where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def built() -> dict[str, object] | None:
    """Return what the build of a wheel wrote down; None in a tree that was compiled in place."""
    file = resources.files("appliance").joinpath("built.json")
    if not file.is_file():
        return None
    found: dict[str, object] = json.loads(file.read_text())
    return found


def dependencies() -> dict[str, str | None]:
    """Return the version of each package that the appliance names, extras too; None for one that is not installed."""
    found: dict[str, str | None] = {}
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return found
    for requirement in requirements:
        if re.search(r"extra == .test.", requirement):
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return dict(sorted(found.items()))


def versions() -> dict[str, object]:
    """Return everything, as `appliance version --json` prints it."""
    return {
        "version": __version__,
        "built": built(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "libpcap": libpcap(),
        "libzmq": zeromq(),
        "kernel": {
            "release": platform.release(),
            "machine": platform.machine(),
            "landlock": landlock_version(),
            "seccomp": text_of(SECCOMP).split(),
            "bpf_jit": text_of(JIT) or None,
        },
        "features": {feature: any(map(there, modules)) for feature, modules in FEATURES.items()},
        "dependencies": dependencies(),
    }


def lines() -> list[str]:
    """Return the same in short, for a person."""
    known = versions()
    features = known["features"]
    kernel = known["kernel"]
    assert isinstance(features, dict)
    assert isinstance(kernel, dict)
    have = [name for name, present in features.items() if present]
    lack = [name for name, present in features.items() if not present]
    return [
        f"appliance {known['version']}",
        f"Python {known['python']}, {known['libpcap']}, libzmq {known['libzmq']}",
        f"Linux {kernel['release']}, landlock {kernel['landlock'] or 'none'},"
        f" seccomp {'yes' if kernel['seccomp'] else 'no'}",
        f"features {' '.join(have) or 'none'}" + (f"; not installed: {' '.join(lack)}" if lack else ""),
    ]
