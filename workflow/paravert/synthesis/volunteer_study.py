"""One volunteer's study: every series rendered and written, with the truth beside it."""

from pathlib import Path

import numpy as np

from paravert.synthesis.body import body_of
from paravert.synthesis.mr_images import Series, write_image
from paravert.synthesis.protocol import Protocol, protocol_of
from paravert.synthesis.scouts import Scout, localizer_series, sagittal_series
from paravert.synthesis.signal import Section, render_planes
from paravert.synthesis.truth import affine_of, true_muscle_rows, true_slice_rows, write_label_map
from paravert.synthesis.volunteers import Volunteer


def write_study(folder: Path, volunteer: Volunteer, index: int, seed: int) -> dict:
    """Write a study: dicom/LOC, dicom/SAG_T2, dicom/AX_T2 and truth.nii.gz into an empty folder.

    index: of the volunteer in the cohort; it chooses the protocol. Returns the truth as rows,
    {"slices": [...], "muscles": [...]}.
    """
    body = body_of(volunteer)
    protocol = protocol_of(volunteer, index)
    planes = [protocol.in_body(protocol.plane(number)) for number in range(protocol.slices)]
    sections = list(render_planes(body, planes, protocol.grid, protocol.look))
    dicom = folder / "dicom"
    _write_axial(dicom / "AX_T2", sections, protocol, volunteer, seed)
    for name, number, kind, scouts in (
        ("SAG_T2", 2, "", sagittal_series(body, protocol)),
        ("LOC", 1, "LOCALIZER", localizer_series(body, protocol)),
    ):
        _write_scouts(dicom / name, scouts, number, kind, volunteer, seed)
    labels = np.stack([section.labels for section in sections])
    write_label_map(folder / "truth.nii.gz", labels, affine_of(protocol))
    rows = true_slice_rows(volunteer.subject, protocol, sections)
    return {"slices": rows, "muscles": true_muscle_rows(rows, protocol.spacing_mm)}


def _write_axial(
    folder: Path, sections: list[Section], protocol: Protocol, volunteer: Volunteer, seed: int
) -> None:
    folder.mkdir(parents=True)
    series = Series(
        name=folder.name,
        number=3,
        kind="",
        spacing_mm=protocol.spacing_mm,
        thickness_mm=protocol.thickness_mm,
        pixel_mm=protocol.pixel_mm,
        echo_ms=99.0,
        repetition_ms=4200.0,
        bits=protocol.bits,
        compressed=protocol.compressed,
    )
    count = len(sections)
    names = np.random.default_rng([volunteer.seed, 71]).permutation(count)
    for number, section in enumerate(sections):
        instance = count - number if protocol.cranial_first else number + 1
        path = folder / f"IM{names[number] + 1:04d}.dcm"
        write_image(path, section.image, protocol.plane(number), series, instance, volunteer, seed)


def _write_scouts(
    folder: Path, scouts: list[Scout], number: int, kind: str, volunteer: Volunteer, seed: int
) -> None:
    folder.mkdir(parents=True)
    series = Series(
        name=folder.name,
        number=number,
        kind=kind,
        spacing_mm=scouts[0].spacing_mm,
        thickness_mm=scouts[0].thickness_mm,
        pixel_mm=scouts[0].pixel_mm,
        echo_ms=95.0,
        repetition_ms=3500.0,
    )
    for instance, scout in enumerate(scouts, start=1):
        path = folder / f"IM{instance:04d}.dcm"
        write_image(path, scout.image, scout.plane, series, instance, volunteer, seed)
