"""Data sets at an address, such as s3://bucket/data.parquet: `fsspec` fetches them."""

from __future__ import annotations

import logging
from glob import has_magic
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from auditor.errors import InputError, first_line

LOG = logging.getLogger(__name__)

# What has to be installed for a protocol, where fsspec itself does not have it.
_PACKAGES = {
    "abfs": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "http": "fsspec[http]",
    "https": "fsspec[http]",
    "s3": "s3fs",
    "s3a": "s3fs",
}
_DOWNLOAD = "download it and give its path"


def is_address(source: str) -> bool:
    """Tell whether `source` is an address, and no path or hub name."""
    return "://" in source


def check_address(source: str) -> None:
    """Raise InputError for an address that cannot be one by its form alone."""
    import fsspec  # only an address needs it

    protocol = source.partition("://")[0]
    if protocol not in fsspec.available_protocols():
        raise InputError(
            f"{source} is an address of a kind that is not known, {protocol}.",
            f"s3, gs, hf and https are; or {_DOWNLOAD}.",
        )
    if urlsplit(source).password:
        raise InputError(
            "The address holds a password, which reports would repeat.",
            f"Give it by the settings of the service, or {_DOWNLOAD}.",
        )


def fetch(source: str, folder: Path) -> Path:
    """Copy what stands at an address into `folder`, a file or all files below a folder or of a
    pattern, and return the file or `folder`.

    Raises InputError where it cannot be read, with the package that is missing if one is.
    """
    import fsspec

    check_address(source)
    protocol = source.partition("://")[0]
    LOG.info("fetching %s", source)
    try:
        files, root = fsspec.core.url_to_fs(source)
        # A web page that lists links is a file, and "?" begins a query there.
        is_web = protocol in ("http", "https")
        if is_web or not (has_magic(root) or files.isdir(root)):
            target = folder / (PurePosixPath(urlsplit(source).path).name or "data")
            files.get_file(root, str(target))
            return target
        names = files.glob(root) if has_magic(root) else files.find(root)
        base = PurePosixPath(
            *takewhile(lambda part: not has_magic(part), PurePosixPath(root).parts)
        )
        for name in sorted(name for name in names if files.isfile(name)):
            inner = PurePosixPath(name).relative_to(base)
            if ".." in inner.parts:
                raise InputError(f"{source} holds a file {inner}.", f"Rename it, or {_DOWNLOAD}.")
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(name, str(target))
    except InputError:
        raise
    except ImportError as error:
        package = _PACKAGES.get(protocol, "")
        hint = f"pip install '{package}', or {_DOWNLOAD}." if package else f"Or {_DOWNLOAD}."
        raise InputError(f"{source} cannot be read: {first_line(error)}.", hint) from error
    except Exception as error:  # any of a dozen errors of networks and services
        why = first_line(error) or type(error).__name__
        if isinstance(error, FileNotFoundError):
            why = "there is no such file"
        raise InputError(
            f"{source} cannot be read: {why}.",
            f"Check the address and your access to it, or {_DOWNLOAD}.",
        ) from error
    return folder
