"""A small table to be damaged."""

import lancedb

import dpr_lance
from dpr_lance import HashEncoder

DOCUMENTS = [{"id": f"d{number}", "text": f"a river and word{number}", "year": number} for number in range(12)]


def opened(folder):
    return dpr_lance.connect(folder, encoder=HashEncoder(16), resident_bytes=0)


def one(folder, pattern):
    return min(folder.glob(pattern))


def flip(path, at=-100):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def rows_of(folder):
    return lancedb.connect(folder).open_table("passages")
