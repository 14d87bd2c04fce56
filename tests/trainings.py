"""Settings of trainings for tests: the defaults of config.yaml with a few changes."""

import json
from pathlib import Path

import yaml

from paravert.network.architecture import Architecture
from paravert.network.settings import Settings, settings_and_start

CONFIGURATION = Path(__file__).parents[1] / "config" / "config.yaml"


def section_of(training: str, **changes) -> str:
    """Return a whole section of the configuration as JSON, with some of its values changed."""
    section = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))[training]
    unknown = changes.keys() - section.keys()
    assert not unknown, unknown
    return json.dumps(section | changes)


def loop_settings(training: str = "train_network", **changes) -> Settings:
    """Return the settings of a training loop; architecture: in place of the section's."""
    architecture: Architecture | None = changes.pop("architecture", None)
    section = json.loads(section_of(training, **changes))
    if architecture is not None:
        section |= vars(architecture)
    return settings_and_start(section)[0]
