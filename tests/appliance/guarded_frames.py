"""Every truncation of every sample, whole and damaged, right before a page that may not be read.

`python guarded_frames.py` prints how many frames were looked at; reading one byte too many kills it (SIGSEGV), as
`python guarded_frames.py beyond` shows.
"""

from __future__ import annotations

import ctypes
import mmap
import random
import sys

from sample_frames import SAMPLES

from appliance.wire.tcp_locator import find

PAGE = mmap.PAGESIZE
PROT_NONE = 0


def guarded() -> memoryview:
    """One readable page; behind its last byte memory may not be touched."""
    pages = mmap.mmap(-1, 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(start + PAGE), ctypes.c_size_t(PAGE), PROT_NONE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    return memoryview(pages)


def main() -> None:
    page = guarded()
    if sys.argv[1:] == ["beyond"]:
        print(page[PAGE])
    chosen = random.Random(8)
    count = 0
    for link_type, frame, *_ in SAMPLES.values():
        for length in range(len(frame) + 1):
            for damaged in range(4):
                view = page[PAGE - length : PAGE]
                view[:] = frame[:length]
                for _ in range(damaged if length else 0):
                    view[chosen.randrange(length)] = chosen.randrange(256)
                find(link_type, view, len(frame), max_tunnels=16)
                count += 1
    print(count)


if __name__ == "__main__":
    main()
