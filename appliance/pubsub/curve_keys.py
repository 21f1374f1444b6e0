"""Key files of the feed and its subscribers, and the socket options that use them (CURVE, ZeroMQ RFC 26).

Key files are those of pyzmq and CZMQ: NAME.key holds a public key, NAME.key_secret both halves.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from zmq.utils import z85

from appliance.ipc.sockets import BusError

SECRET = ".key_secret"
PUBLIC = ".key"
SERVER = "server"
CLIENTS = "clients"  # the folder in which `appliance keygen` stores the public keys of clients
DOMAIN = b"feed"


class KeyFault(BusError):
    """A key file or folder is unusable. The text is for a person and names the fix."""


class Pair(NamedTuple):
    """Both halves of a key, as Z85 text."""

    public: bytes
    secret: bytes


class Keys(NamedTuple):
    """The keys of a client: the server's public key and a pair of its own."""

    server: bytes
    own: Pair


# -- files -----------------------------------------------------------------------------------------------------------


def read_pair(path: Path | str) -> Pair:
    """Read a secret key file, which no user but its owner may read. Raises KeyFault."""
    try:
        about = os.stat(path)
    except OSError as error:
        raise KeyFault(f"{path}: {error.strerror}; `appliance keygen` makes keys") from error
    if about.st_uid not in (os.geteuid(), 0):
        raise KeyFault(f"{path}: this secret key belongs to another user")
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise KeyFault(f"{path}: others can read or change this secret key; run: chmod 0600 {path}")
    public, secret = _read(path)
    if secret is None:
        raise KeyFault(f"{path}: holds no secret key; name the file that ends with {SECRET}")
    return Pair(public, secret)


def read_public(path: Path | str) -> bytes:
    """Read the public key in a file of either kind. Raises KeyFault."""
    return _read(path)[0]


def read_keys(server: Path | str, own: Path | str) -> Keys:
    """Read the keys of a client, from the files of the server's public key and its own secret key. Raises KeyFault."""
    if not server or not own:
        raise KeyFault("the public key of the server and a secret key of one's own belong together")
    return Keys(read_public(server), read_pair(own))


def read_allowed(folder: Path | str) -> tuple[dict[bytes, str], list[str]]:
    """Return the public keys of all files in a folder with the names of these, and the reasons for skipped files.

    Raises KeyFault if the folder cannot be read.
    """
    allowed, faults = {}, []
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(PUBLIC))
    except OSError as error:
        raise KeyFault(f"{folder}: {error.strerror}; feed.curve_clients is a folder of public keys") from error
    for name in names:
        try:
            allowed[read_public(Path(folder) / name)] = name.removesuffix(PUBLIC)
        except KeyFault as fault:
            faults.append(str(fault))
    return allowed, faults


def make_keys(folder: Path, clients: list[str]) -> list[str]:
    """Make the server's keys in a folder unless they exist, and a pair for each client. Return a report.

    Never replaces an existing file. Raises KeyFault.
    """
    for name in clients:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name == SERVER:
            raise KeyFault(
                f"{name!r} cannot be a client's name: letters, digits, dot, dash and underscore, not {SERVER}"
            )
        for taken in (folder / f"{name}{SECRET}", folder / f"{name}{PUBLIC}", folder / CLIENTS / f"{name}{PUBLIC}"):
            if taken.exists():
                raise KeyFault(f"{taken} exists; remove it first to replace it")
    said = []
    mask = os.umask(0o077)
    try:
        (folder / CLIENTS).mkdir(parents=True, exist_ok=True)
        if not (folder / f"{SERVER}{SECRET}").exists():
            _make_pair(folder, SERVER)
            said.append(f"{folder}/{SERVER}{SECRET}  the feed's secret: feed.curve_key (--curve-key)")
            said.append(f"{folder}/{SERVER}{PUBLIC} its public key: give it to every reader")
        for name in clients:
            _make_pair(folder, name)
            (folder / f"{name}{PUBLIC}").rename(folder / CLIENTS / f"{name}{PUBLIC}")
            said.append(f"{folder}/{CLIENTS}/{name}{PUBLIC}  {name} may read: feed.curve_clients is {folder}/{CLIENTS}")
            said.append(f"{folder}/{name}{SECRET}  {name}'s secret: give it to {name} alone")
    except OSError as error:
        raise KeyFault(f"{folder}: {error.strerror}") from error
    finally:
        os.umask(mask)
    return said


def _make_pair(folder: Path, name: str) -> None:
    """Make both halves of a key, or none. Raises OSError."""
    from zmq.auth import create_certificates  # here: slow to load, and every reader of a feed has this file

    halves = [folder / f"{name}{SECRET}", folder / f"{name}{PUBLIC}"]
    fresh = [half for half in halves if not half.exists()]
    try:
        create_certificates(folder, name)
    except OSError:
        for half in fresh:  # else the next attempt would find it
            half.unlink(missing_ok=True)
        raise


def _read(path: Path | str) -> tuple[bytes, bytes | None]:
    from zmq.auth import load_certificate

    try:
        keys = load_certificate(path)
        for key in keys:
            if key is not None and len(z85.decode(key)) != 32:
                raise ValueError
    except OSError as error:
        raise KeyFault(f"{path}: {error.strerror or 'cannot be read'}") from error
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise KeyFault(f"{path}: holds no CURVE key; `appliance keygen` makes keys") from error
    return keys


# -- sockets ---------------------------------------------------------------------------------------------------------


def server_options(pair: Pair | None) -> dict[str, int | bytes]:
    """Return the options of a binding socket that accepts only known keys; none without a pair."""
    if pair is None:
        return {}
    return {"curve_server": 1, "curve_secretkey": pair.secret, "zap_domain": DOMAIN}


def client_options(keys: Keys | None) -> dict[str, int | bytes]:
    """Return the options of a connecting socket with a key; none without keys."""
    if keys is None:
        return {}
    own = keys.own
    return {"curve_serverkey": keys.server, "curve_publickey": own.public, "curve_secretkey": own.secret}
