"""Blocks of data hashed, encrypted and compressed in C, without the interpreter."""

from __future__ import annotations

import hashlib
import zlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pool import pooled

from throughput import parse_options

CIPHER = AESGCM(AESGCM.generate_key(256))
DATA = bytes(range(256)) * 4096


def seal(number: int) -> int:
    """One block."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(DATA)
    digest.finalize()
    hashlib.sha256(DATA).hexdigest()
    sealed = CIPHER.encrypt(number.to_bytes(12, "big"), DATA, None)
    return len(zlib.compress(sealed[:200_000], 1))


if __name__ == "__main__":
    pooled(seal, parse_options(__doc__), unit="blocks")
