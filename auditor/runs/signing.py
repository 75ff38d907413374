"""The secret key of this machine, and what it signs.

A run directory lies beside the data and may have come with them. What is read back from it would
decide verdicts, so it is believed only where this machine has written it.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import json
import logging
import os
import secrets
import stat
from multiprocessing import parent_process
from pathlib import Path

from auditor.errors import RunError
from auditor.model.builtin import cache_dir

LOG = logging.getLogger(__name__)
KEY = "key"
SIGNATURE = ".hmac"
_BYTES = 32
# Neither a link nor a pipe may lead elsewhere or make a reader wait. Windows has neither flag.
_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def machine_key() -> bytes:
    """The 32 secret bytes of this user on this machine, made at the first use.

    They lie in the cache folder, readable for this user alone. Where none can be kept there, they
    last as long as the process, and what it keeps is not believed afterwards. Raises RunError when
    others may read or write the key, and when none can be kept for several processes that share a
    run.
    """
    return _key_in(cache_dir())


def sign(run: str, name: str, content: bytes) -> str:
    """The HMAC-SHA256, in hexadecimal digits, of the file `name` of the run with the key `run`."""
    # The list keeps run and name apart, and has no zero byte.
    about = json.dumps([run, name]).encode() + b"\0"
    return hmac.digest(machine_key(), about + content, "sha256").hex()


def is_signed(run: str, name: str, content: bytes, signature: str) -> bool:
    """Tell whether `signature` is that of `sign`."""
    return hmac.compare_digest(sign(run, name, content).encode(), signature.encode())


def secret_seed(digest: str) -> int:
    """A seed below 2**32 that follows from the key and the digest of some data: the same again
    here, and not to be known elsewhere.
    """
    return int.from_bytes(hmac.digest(machine_key(), b"seed\0" + digest.encode(), "sha256")[:4])


def read_signed(path: Path) -> bytes | None:
    """The content of a file in a run directory, by its signature beside it; None where there is no
    such file, or none that this machine has signed.
    """
    content = read_plain(path)
    if content is None:
        return None
    signature = read_plain(path.with_name(path.name + SIGNATURE)) or b""
    if is_signed(path.parent.name, path.name, content, signature.decode(errors="replace")):
        return content
    LOG.info("%s was not signed by this machine's key, and is not believed", path)
    return None


def read_plain(path: Path) -> bytes | None:
    """The content of a regular file that is no link, or None."""
    with contextlib.suppress(OSError), os.fdopen(os.open(path, _OPEN), "rb") as stream:
        return stream.read() if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else None
    return None


@functools.cache
def _key_in(folder: Path) -> bytes:
    path = folder / KEY
    try:
        if not path.exists():
            _make(path)
        with os.fdopen(os.open(path, _OPEN), "rb") as stream:
            mode, key = os.fstat(stream.fileno()).st_mode, stream.read()
    except OSError as error:
        # Processes that share a run would not believe one another's work.
        if parent_process() is not None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RunError(
                f"The key {path} of this machine cannot be kept: {error.strerror or error}.",
                "Name a folder that can be written with SUBLIMINAL_AUDIT_CACHE.",
            ) from error
        LOG.warning("No key can be kept in %s: what is kept now will not be believed later", folder)
        return secrets.token_bytes(_BYTES)
    # A key that came with a checkout is one that others know; git keeps no such mode.
    if len(key) != _BYTES or (os.name == "posix" and mode & 0o077):
        raise RunError(
            f"{path} is no key that only this user can read.",
            "Remove it: another is made, and work that was kept is done again.",
        )
    return key


def _make(path: Path) -> None:
    """Put a new key at `path`, wholly, unless another process was quicker. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{KEY}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(
            os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as stream:
            stream.write(secrets.token_bytes(_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        # Unlike a rename, a link never replaces the key of another process.
        try:
            os.link(partial, path)
        except FileExistsError:
            LOG.debug("another process made the key")
        except OSError:
            partial.replace(path)  # a file system without links
    finally:
        partial.unlink(missing_ok=True)
