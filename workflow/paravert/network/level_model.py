"""The model files of the networks that find levels: weights, and what they are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from paravert.errors import InputError
from paravert.tables import whole_file


@dataclass(frozen=True)
class ModelForm:
    """The form of the model file of a network that finds vertebral levels: how the file says what it is.

    Its metadata (safetensors) have one entry, JSON with version, pixel size (mm) and architecture.
    key, version: in the metadata of the file. what: the network, in words. spacing_mm: of its input.
    architecture: its sizes, JSON-able.
    """

    key: str
    version: int
    what: str
    spacing_mm: float
    architecture: Mapping[str, object]

    def save(self, path: Path, network: nn.Module) -> None:
        """Write a network to a safetensors file with float16 weights, completely or not at all."""
        told = {"format": self.version, "spacing_mm": self.spacing_mm}
        told |= {"architecture": dict(self.architecture)}
        weights = {name: w.detach().half().contiguous() for name, w in network.state_dict().items()}
        with whole_file(path) as draft:
            draft.write_bytes(save(weights, {self.key: json.dumps(told, sort_keys=True)}))

    def load(self, path: Path, network: nn.Module) -> nn.Module:
        """Return `network` with the weights of a model file, in float32 and evaluation mode.

        path: of the file. network: of this form's architecture; changed in place. Raises InputError
        if the file is not a model of this form.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {}).get(self.key, "{}"))
        except (OSError, SafetensorError):
            told = {}
        if told.get("format") != self.version or told["architecture"] != self.architecture:
            raise InputError(path, f"not a model that {self.what}")
        network.load_state_dict({name: weight.float() for name, weight in load_file(path).items()})
        return network.eval()
