"""The model files of the networks that find vertebral levels: weights, and metadata that identify them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from paravert.errors import InputError
from paravert.tables import whole_file


@dataclass(frozen=True)
class ModelForm:
    """The file format of one kind of network for vertebral levels, by which its files are known.

    A file (safetensors) has an entry of metadata: under `key`, JSON with version, pixel size and
    architecture; a file in which it differs is rejected. The forms are SAGITTAL_FORM and
    AXIAL_FORM. what: the network in words, which complete the message "not a model that ...".
    spacing_mm: pixel size of the network's input. architecture: settings of its layers, {name:
    value of JSON}.
    """

    key: str
    version: int
    what: str
    spacing_mm: float
    architecture: Mapping[str, object]

    def save(self, path: Path, network: "torch.nn.Module") -> None:  # noqa: F821 (not imported)
        """Write a network to a safetensors file with float16 weights, completely or not at all.

        network: on the CPU; whether it has this architecture is not checked. path: replaced if it exists;
        its folder is created.
        """
        weights = {name: w.half().numpy() for name, w in network.state_dict().items()}
        with whole_file(path) as draft:
            draft.write_bytes(save(weights, {self.key: self._told()}))

    def weights(self, path: Path) -> dict[str, np.ndarray]:
        """Return the weights in a model file, {name: float32 array}, names as in the torch module.

        Names and shapes are not checked. Raises InputError as `check`.
        """
        self.check(path)
        return {name: weight.astype(np.float32) for name, weight in load_file(path).items()}

    def check(self, path: Path) -> None:
        """Raise InputError if a file is absent or, by its metadata, not a model of this form."""
        try:
            with safe_open(path, framework="numpy") as file:
                told = (file.metadata() or {}).get(self.key)
        except (OSError, SafetensorError):
            told = None
        if told != self._told():
            raise InputError(path, f"not a model that {self.what}")

    def _told(self) -> str:
        """Return the entry of metadata by which a file of this form is recognised."""
        told = {"format": self.version, "spacing_mm": self.spacing_mm}
        return json.dumps(told | {"architecture": dict(self.architecture)}, sort_keys=True)


# Here, so that a run can check its model files without importing the networks.
SAGITTAL_FORM = ModelForm(
    "paravert-levels",
    1,
    "finds discs in sagittal slices",
    2.5,
    {"width": 8, "levels": 5, "normalisation": "group", "dropout": 0.0},
)
AXIAL_FORM = ModelForm(
    "paravert-axial-levels",
    2,
    "tells levels from the muscles in axial slices",
    8.0,
    {"width": 16, "hidden": 128, "cells": 32},
)
