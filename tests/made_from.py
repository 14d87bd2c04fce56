"""Digests of what shard tables are made from, as of a run with the settings of config.yaml."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from paravert import plan
from paravert.steps import STEPS

REPOSITORY = Path(__file__).parents[1]
CONFIGURATION = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
# File and SHA-256 of the models of segment_muscles and of find_levels: sagittal series, axial slices.
MODEL = (REPOSITORY / CONFIGURATION["model"]["file"], CONFIGURATION["model"]["sha256"])
LEVELS_MODEL = (
    REPOSITORY / CONFIGURATION["find_levels"]["model"],
    CONFIGURATION["find_levels"]["sha256"],
)
AXIAL_MODEL = (
    REPOSITORY / CONFIGURATION["find_levels"]["axial_model"],
    CONFIGURATION["find_levels"]["axial_sha256"],
)


def chain(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Return what the tables of a shard are made from, by step; fingerprints: of the conversions."""
    settings = plan.step_settings(CONFIGURATION)
    made = {}
    for step in STEPS.values():
        if step is plan.FIRST:
            made[step.name] = plan.conversion_made_from(fingerprints)
        else:
            made[step.name] = plan.step_made_from(step, settings.get(step.name, {}), made)
    return made
