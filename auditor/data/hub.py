"""A data set of the Hugging Face hub, streamed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from auditor.data.batches import BATCH_ROWS, Row
from auditor.data.text import TextBatch, batched
from auditor.errors import InputError, first_line

LOG = logging.getLogger(__name__)

# "owner/name" or "name"; what ends in a file suffix is a file that is missing.
_NAME = re.compile(r"(?!.*\.[A-Za-z]\w*$)(?:[\w-][\w.-]*/)?[\w-][\w.-]*")
_PART = re.compile(r"[\w.-]+(/[\w.-]+)?")
_BARE_WITH_DOT = re.compile(r"[^/]*\.[^/]*")


def is_hub_name(source: str) -> bool:
    """Tell whether `source` could be a hub data set: `owner/name`, or `name` without a dot, each
    with `:config` or `:config/split`.
    """
    name, colon, part = source.partition(":")
    is_part = bool(_PART.fullmatch(part)) if colon else True
    return bool(_NAME.fullmatch(name)) and not _BARE_WITH_DOT.fullmatch(name) and is_part


@dataclass(frozen=True)
class HubSplit:
    """One split as one block.

    limit: rows to read at most, None for all.
    """

    name: str
    stream: Iterable[Row]
    limit: int | None
    rows: None = None

    def batches(self, columns: Sequence[str] | None, size: int = BATCH_ROWS) -> Iterator[TextBatch]:
        """Yield the rows in the hub's order; `columns` saves nothing here.

        Raises InputError if the hub breaks off.
        """
        try:
            yield from batched(self.name, islice(iter(self.stream), self.limit), size)
        except Exception as error:  # any of a dozen network and format errors of three libraries
            raise _hub_error(self.name, error) from error


def hub_split(name: str, limit: int | None) -> tuple[HubSplit, str, int | None, str]:
    """The split that `name` says, else "train" or the first one, with the split's name, its number
    of rows if the hub knows it, and the commit that is read.

    Raises InputError if there is no such data set, it needs more than a name, or the hub cannot be
    reached.
    """
    import datasets  # takes a second, and only a hub data set needs it
    import huggingface_hub

    if datasets.config.HF_HUB_OFFLINE:
        raise _no_hub(
            name, "HF_HUB_OFFLINE is set", "Unset it, or download the data set and pass its file."
        )
    try:
        # Asked first: without a network `load_dataset` tries again for half a minute and logs every
        # attempt.
        repository, _, part = name.partition(":")
        config, _, wanted = part.partition("/")
        commit = huggingface_hub.HfApi().dataset_info(repository, timeout=10).sha
        names = [repository, config] if config else [repository]
        splits = datasets.load_dataset(*names, streaming=True, revision=commit)
    except Exception as error:  # as above
        raise _hub_error(name, error) from error
    if wanted and wanted not in splits:
        raise InputError(f"{name} has no split {wanted!r}.", f"It has: {', '.join(splits)}.")
    split = wanted or ("train" if "train" in splits else next(iter(splits)))
    info = splits[split].info
    total = info.splits[split].num_examples if info.splits and split in info.splits else None
    LOG.info("streaming the split %s of %s from the hub (%s rows)", split, name, total or "unknown")
    return HubSplit(name, splits[split], limit), split, total or None, commit or ""


def _hub_error(name: str, error: Exception) -> InputError:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        why = "it is gated"
        hint = "Accept its terms on the hub and log in (hf auth login), or pass a file."
    elif isinstance(error, (DatasetNotFoundError, RepositoryNotFoundError)):
        why = "there is no such data set, or it is private"
        hint = "Check the name and your hub login, or pass a file."
    elif isinstance(error, ValueError):
        why = first_line(error)
        hint = "Download the part you want and pass its file."
    else:
        why = f"no network? {first_line(error)}"
        hint = "Check the network, or download the data set and pass its file."
    return _no_hub(name, why, hint)


def _no_hub(name: str, why: str, hint: str) -> InputError:
    return InputError(
        f"No file or folder {name} here, and the hub data set of that name cannot be read: {why}.",
        hint,
    )
