"""When something was made."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from auditor.errors import AuditError

EPOCH = "SOURCE_DATE_EPOCH"


def utc_now() -> str:
    """The time in UTC, as ISO 8601 with seconds: 2026-11-29T09:20:00Z.

    SOURCE_DATE_EPOCH, seconds since 1970, takes its place where it is set, so that the same work
    can be written again byte for byte (https://reproducible-builds.org/specs/source-date-epoch/).
    Raises AuditError where it is no such number.
    """
    epoch = os.environ.get(EPOCH)
    try:
        moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise AuditError(
            f"{EPOCH} {epoch!r} is not a number of seconds since 1970.", f"Mend or unset {EPOCH}."
        ) from error
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
