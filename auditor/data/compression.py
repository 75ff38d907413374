"""Compressed text files, told by their first bytes whatever their name says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pyarrow as pa

Compression = Literal["gzip", "bz2", "xz", "zstd"]

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")

DAMAGE = (EOFError, zlib.error, lzma.LZMAError)
"""What unpacking raises, besides OSError, where the content is broken or ends early."""

_MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def compression_of(path: Path) -> Compression | None:
    """How a file is compressed; None if it is not."""
    with path.open("rb") as stream:
        head = stream.read(max(map(len, _MAGIC)))
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def unpacked(path: Path) -> io.BufferedReader:
    """The content of a file, unpacked where it is compressed; all members of it, one after the
    other.
    """
    match compression_of(path):
        case "gzip":
            return cast(io.BufferedReader, gzip.GzipFile(path))
        case "bz2":
            return cast(io.BufferedReader, bz2.BZ2File(path))
        case "xz":
            return cast(io.BufferedReader, lzma.LZMAFile(path))
        case "zstd":
            # The codec comes with pyarrow; the standard library has none before Python 3.14.
            stream = pa.CompressedInputStream(pa.PythonFile(path.open("rb"), "r"), "zstd")
            return io.BufferedReader(stream)
        case None:
            return path.open("rb")


def packed(stream: BinaryIO, compression: Compression) -> BinaryIO:
    """A stream that compresses into `stream`, which stays open when it is closed."""
    match compression:
        case "gzip":
            # Neither name nor time in the header: the same rows give the same bytes.
            zipped = gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0)
            return cast(BinaryIO, zipped)
        case "bz2":
            return cast(BinaryIO, bz2.BZ2File(stream, "wb"))
        case "xz":
            return cast(BinaryIO, lzma.LZMAFile(stream, "wb"))
        case "zstd":
            # pyarrow closes the stream that it writes into, and ours is written on.
            target = io.FileIO(stream.fileno(), "wb", closefd=False)
            output = pa.CompressedOutputStream(pa.PythonFile(target, "w"), "zstd")
            return cast(BinaryIO, output)
