"""Digests from the modules behind hashlib, without OpenSSL, which takes 10 ms to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b, md5, sha1, sha256
else:
    try:
        from _blake2 import blake2b
        from _md5 import md5
        from _sha1 import sha1

        try:
            from _sha2 import sha256
        except ImportError:  # Python 3.11
            from _sha256 import sha256
    except ImportError:
        from hashlib import blake2b, md5, sha1, sha256

__all__ = ["blake2b", "md5", "sha1", "sha256"]
