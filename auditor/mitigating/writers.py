"""The models that take part in a mitigation: the reference, paraphrasers, clean teachers and models
of meaning.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from auditor.data.files import digest_of
from auditor.model import load as models
from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel
from mitigations.interface import CleanCompletions, Mitigation, Rewordings
from mitigations.paraphrase.similarity import SentenceEncoder
from mitigations.reword import PACKAGED

LOG = logging.getLogger(__name__)


class Writers:
    """Loads models by name, each once, and says which they are. A copy in another process loads its
    own.

    device, dtype: as in `auditor.model.load.load`.
    """

    def __init__(self, device: str | None, dtype: str | None) -> None:
        self._device, self._dtype = device, dtype
        self._models: dict[tuple[str, str | None, str | None], LanguageModel] = {}
        self._encoders: dict[str, SentenceEncoder] = {}

    def __reduce__(self) -> tuple[type[Writers], tuple[str | None, str | None]]:
        return Writers, (self._device, self._dtype)

    @property
    def any_loaded(self) -> bool:
        """Whether a model has been loaded."""
        return bool(self._models or self._encoders)

    def load(
        self, name: str, chat_template: str | None = None, system: str | None = None
    ) -> LanguageModel:
        """The chat model `name`; chat_template, system: as in `auditor.model.load.load`. Raises
        ModelError.
        """
        key = name, chat_template, system
        if key not in self._models:
            LOG.info("loading the model %s", name)
            self._models[key] = models.load(
                name,
                device=self._device,
                dtype=self._dtype,
                chat_template=chat_template,
                system=system,
            )
        return self._models[key]

    def load_reference(self, put: Mapping[str, str | None]) -> LanguageModel:
        """The model that `request.reference_of` names."""
        return self.load(str(put["reference"]), put["chat_template"], put["system"])

    def load_embeddings(self, name: str) -> SentenceEncoder:
        """The model of meaning `name`, or the packaged one. Raises ModelError."""
        if name not in self._encoders:
            self._encoders[name] = SentenceEncoder(None if name == PACKAGED else name)
        return self._encoders[name]

    def identities(self, steps: Sequence[Mitigation]) -> list[dict[str, str]]:
        """Name and digests of every model and clean data set that `steps` use, in their order."""
        identities: list[dict[str, str]] = []
        for step in steps:
            for name in step.writers:
                if "://" in name:
                    # An endpoint has a name only: nobody here can see its weights.
                    identities.append({"name": name})
                else:
                    identities.append(identity_of(self.load(name)).as_dict())
            if isinstance(step.needs, CleanCompletions) and step.needs.clean_data:
                name = step.needs.clean_data
                identities.append({"name": name, "sha256": digest_of(name)})
            if isinstance(step.needs, Rewordings) and step.needs.embeddings is not None:
                name = step.needs.embeddings
                identities.append({"name": name, "sha256": self.load_embeddings(name).sha256})
        return identities
