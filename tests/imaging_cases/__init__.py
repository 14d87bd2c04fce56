"""The table of cases: what scanners and exports do, and what the conversion must make of it."""

from imaging_cases import (
    contrast,
    damage,
    density,
    files,
    geometry,
    headers,
    jitter,
    masks,
    multiframe,
    multiframe_faults,
    nifti,
    orientations,
    pixels,
    planes,
    series,
    spacing,
    stacks,
    syntaxes,
)
from imaging_cases.case import Case

CASES: tuple[Case, ...] = (
    *orientations.CASES,
    *files.CASES,
    *headers.CASES,
    *syntaxes.CASES,
    *series.CASES,
    *planes.CASES,
    *contrast.CASES,
    *stacks.CASES,
    *jitter.CASES,
    *geometry.CASES,
    *spacing.CASES,
    *density.CASES,
    *multiframe.CASES,
    *multiframe_faults.CASES,
    *pixels.CASES,
    *damage.CASES,
    *nifti.CASES,
    *masks.CASES,
)
