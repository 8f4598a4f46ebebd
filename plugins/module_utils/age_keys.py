# GNU General Public License v3.0+ (see LICENSE)
"""The keys of age, by which backups are encrypted: are they ones, and which public key belongs to a private one."""

from __future__ import annotations

import re

# Bech32, as BIP 173 has it: 5 bits a character.
ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
PUBLIC, PRIVATE = "age", "age-secret-key-"
# 32 bytes and 4 bits of nothing.
LENGTH = 52


def public_key(private: str) -> str:
    """The public key of a private one, AGE-SECRET-KEY-1….

    Raises:
        ValueError: it is none.
    """
    # Here, for most sites have no private key, and their checks need no library.
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    if private != private.upper():
        raise ValueError
    key = X25519PrivateKey.from_private_bytes(decode(PRIVATE, private.lower()))
    return encode(PUBLIC, key.public_key().public_bytes_raw())


def is_public_key(text: str) -> bool:
    """Whether age encrypts for this one, age1…."""
    try:
        decode(PUBLIC, text)
    except ValueError:
        return False
    return True


def decode(kind: str, text: str) -> bytes:
    """The 32 bytes of a key of this kind.

    Raises:
        ValueError: it is none, or a character of it was changed.
    """
    if not re.fullmatch(f"{kind}1[{ALPHABET}]{{{LENGTH + 6}}}", text):
        raise ValueError
    digits = [ALPHABET.index(character) for character in text[len(kind) + 1 :]]
    if digits[LENGTH:] != checksum(kind, digits[:LENGTH]):
        raise ValueError
    number = 0
    for digit in digits[:LENGTH]:
        number = number << 5 | digit
    return (number >> 4).to_bytes(32, "big")


def encode(kind: str, key: bytes) -> str:
    """The text of a key of this kind."""
    number = int.from_bytes(key, "big") << 4
    digits = [number >> 5 * place & 31 for place in reversed(range(LENGTH))]
    return f"{kind}1" + "".join(ALPHABET[digit] for digit in digits + checksum(kind, digits))


def checksum(kind: str, digits: list[int]) -> list[int]:
    """The six digits that follow."""
    value = 1
    for digit in [*(ord(character) >> 5 for character in kind), 0, *(ord(c) & 31 for c in kind), *digits, *[0] * 6]:
        top = value >> 25
        value = (value & 0x1FFFFFF) << 5 ^ digit
        for place, generator in enumerate(GENERATORS):
            value ^= generator if top >> place & 1 else 0
    return [(value ^ 1) >> 5 * place & 31 for place in reversed(range(6))]
