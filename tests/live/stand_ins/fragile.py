"""The appliance with workers that die of frames with the word POISON of the environment in them, as a worker with a
fault does:  fragile.py run …   With POISON_RAISES in the environment they raise an exception instead of SIGSEGV.

Given a run directory it is such a worker: the supervisor finds it by its name.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def appliance() -> None:
    from appliance.cli import main as cli
    from appliance.supervisor import child_process as processes
    from appliance.supervisor import children

    children.MODULES["worker"] = "fragile"
    processes.FIRST_DELAY_S = 0.05  # nobody waits for it
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ["PYTHONPATH"]])
    cli.main()


def main(argv: list[str]) -> int:
    """The worker."""
    from workers.pipeline import Pipeline
    from workers.process import worker as room

    poison = os.environ["POISON"].encode()

    class Fragile(Pipeline):
        def feed(self, message: memoryview) -> None:
            if poison in bytes(message):
                if "POISON_RAISES" in os.environ:
                    raise RuntimeError("a bug")
                os.kill(os.getpid(), signal.SIGSEGV)
            super().feed(message)

    room.Pipeline = Fragile
    return room.main(argv)


if __name__ == "__main__":
    if os.path.isdir(sys.argv[1]):
        sys.exit(main(sys.argv))
    appliance()
