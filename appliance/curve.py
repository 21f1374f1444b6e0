"""Who may read the feed: key files, and the answer to each peer that wants in (CURVE, ZeroMQ RFC 26; ZAP, RFC 27).

pyzmq's authenticator is a program for asyncio that writes refusals to a log; the feed waits in a loop of its own and
counts them. Key files are those of pyzmq and CZMQ: NAME.key holds a public key, NAME.key_secret both halves.
Nothing here keeps a peer out that is in already: see the feed for what a key that is taken away does.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85

from appliance.bus import Bus, BusError

SECRET = ".key_secret"
PUBLIC = ".key"
SERVER = "server"
CLIENTS = "clients"  # the folder that `appliance keygen` makes for the public keys of those who may read
DOMAIN = b"feed"
TURN_PEERS = 64  # answered per turn of the loop


class KeyFault(BusError):
    """A key file or folder that cannot be used. The text is for a person and says what to change."""


class Pair(NamedTuple):
    """Both halves of a key, as Z85 text."""

    public: bytes
    secret: bytes


class Keys(NamedTuple):
    """What a client needs: the server's public key and a pair of its own."""

    server: bytes
    own: Pair


# -- files -----------------------------------------------------------------------------------------------------------


def read_pair(path: Path | str) -> Pair:
    """A secret key file, which nobody but its owner may read: else it is no secret. Raises KeyFault."""
    try:
        about = os.stat(path)
    except OSError as error:
        raise KeyFault(f"{path}: {error.strerror}; `appliance keygen` makes keys") from error
    if about.st_uid not in (os.geteuid(), 0):
        raise KeyFault(f"{path}: this secret key belongs to another user")
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise KeyFault(f"{path}: others can read or change this secret key; do: chmod 0600 {path}")
    public, secret = _read(path)
    if secret is None:
        raise KeyFault(f"{path}: holds no secret key; name the file that ends with {SECRET}")
    return Pair(public, secret)


def read_public(path: Path | str) -> bytes:
    """The public key in a file of either kind. Raises KeyFault."""
    return _read(path)[0]


def read_keys(server: Path | str, own: Path | str) -> Keys:
    """A client's keys, from the file of the server's public key and the file of its own secret key. Raises KeyFault."""
    if not server or not own:
        raise KeyFault("the public key of the server and a secret key of one's own belong together")
    return Keys(read_public(server), read_pair(own))


def read_allowed(folder: Path | str) -> tuple[dict[bytes, str], list[str]]:
    """The public keys of all files in a folder with the names of these, and what is wrong with those left out.

    Raises KeyFault when the folder cannot be read."""
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
    """The server's keys in a folder unless they are there, and a client's for each name; what was made, in words.

    An existing file is never replaced. Raises KeyFault."""
    for name in clients:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name == SERVER:
            raise KeyFault(
                f"{name!r} cannot be a client's name: letters, digits, dot, dash and underscore, not {SERVER}"
            )
        if (taken := folder / f"{name}{SECRET}").exists():
            raise KeyFault(f"{taken} is there already; remove it first if it shall be another")
    from zmq.auth import create_certificates  # here: slow to load, and every reader of a feed has this file

    said = []
    mask = os.umask(0o077)
    try:
        (folder / CLIENTS).mkdir(parents=True, exist_ok=True)
        if not (folder / f"{SERVER}{SECRET}").exists():
            create_certificates(folder, SERVER)
            said.append(f"{folder}/{SERVER}{SECRET}  the feed's secret: feed.curve_key (--curve-key)")
            said.append(f"{folder}/{SERVER}{PUBLIC}  its public key: give it to those who shall read")
        for name in clients:
            create_certificates(folder, name)
            (folder / f"{name}{PUBLIC}").rename(folder / CLIENTS / f"{name}{PUBLIC}")
            said.append(f"{folder}/{CLIENTS}/{name}{PUBLIC}  {name} may read: feed.curve_clients is {folder}/{CLIENTS}")
            said.append(f"{folder}/{name}{SECRET}  {name}'s secret: give it to {name} alone")
    except OSError as error:
        raise KeyFault(f"{folder}: {error.strerror}") from error
    finally:
        os.umask(mask)
    return said


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
    """What a binding socket needs to let nobody in who has no key; nothing without a pair."""
    if pair is None:
        return {}
    return {"curve_server": 1, "curve_secretkey": pair.secret, "zap_domain": DOMAIN}


def client_options(keys: Keys | None) -> dict[str, int | bytes]:
    """What a connecting socket needs to be let in; nothing without keys."""
    if keys is None:
        return {}
    own = keys.own
    return {"curve_serverkey": keys.server, "curve_publickey": own.public, "curve_secretkey": own.secret}


class Doorkeeper:
    """Answers, for each peer that has proved to own a key, whether that key may come in. One for each Bus.

    Make it before the sockets it guards."""

    def __init__(self, bus: Bus, allowed: Mapping[bytes, str]) -> None:
        self.allowed = allowed
        self.socket = bus.socket(zmq.REP)
        self.socket.bind("inproc://zeromq.zap.01")

    def serve(self) -> int:
        """Answers those who wait, a turn's worth; how many of them were refused."""
        refused = 0
        for _ in range(TURN_PEERS):
            try:
                asked = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            request = asked[1] if len(asked) > 1 else b""
            curve = len(asked) == 7 and asked[0] == b"1.0" and asked[5] == b"CURVE" and len(asked[6]) == 32
            name = self.allowed.get(z85.encode(asked[6])) if curve else None
            refused += name is None
            verdict = [b"400", b"key is not allowed", b""] if name is None else [b"200", b"OK", name.encode()]
            self.socket.send_multipart([b"1.0", request, *verdict, b""])
        return refused
