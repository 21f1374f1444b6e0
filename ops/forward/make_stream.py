"""Makes the JetStream stream that `appliance forward` publishes to, or brings it up to date, as jetstream.json says.

    python ops/forward/make_stream.py nats://HOST:PORT/STREAM [--replicas N] [--credentials FILE]

The same as `nats stream add --config jetstream.json`, for a machine without that tool.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from nats.aio.client import Client
from nats.errors import Error

from appliance.forward.target import Credentials, Target, TargetFault, credentials, parse

DEFINITION = Path(__file__).with_name("jetstream.json")


async def make(target: Target, secret: Credentials, replicas: int | None) -> str:
    """Asks the server; what it did."""
    definition = {**json.loads(DEFINITION.read_text()), "name": target.name}
    if replicas:
        definition["num_replicas"] = replicas
    question = json.dumps(definition).encode()
    login = {"user": secret.user, "password": secret.password, "token": secret.token}
    client = Client()
    await client.connect(
        [f"nats://{server}" for server in target.servers],
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0.1,
        **{name: value for name, value in login.items() if value},
    )
    try:
        for verb, done in (("UPDATE", "brought up to date"), ("CREATE", "made")):
            answer = await client.request(f"$JS.API.STREAM.{verb}.{target.name}", question, timeout=10)
            fault = json.loads(answer.data).get("error")
            if fault is None:
                return done
            if fault.get("code") != 404:
                break
        raise SystemExit(f"{target}: {fault.get('description')}")
    finally:
        await client.close()


def main(arguments: list[str]) -> str:
    """Make the stream or bring it up to date, and return the target with the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--replicas", type=int)
    parser.add_argument("--credentials", type=Path)
    given = parser.parse_args(arguments)
    try:
        target = parse(given.url)
        secret = credentials(given.credentials, os.environ)
    except TargetFault as fault:
        raise SystemExit(str(fault)) from fault
    try:
        return f"{target}: {asyncio.run(make(target, secret, given.replicas))}"
    except (Error, OSError) as error:
        raise SystemExit(f"{target}: {error}") from error


if __name__ == "__main__":
    print(main(sys.argv[1:]))
