"""Compressed NIfTI files, images and masks, whose container is damaged or unusual."""

import gzip

from damaged_nifti import bit_flipped
from imaging_cases.case import afterwards, fault, good, nifti, series, together
from imaging_cases.masks import mask
from paravert.errors import Reason

FILE, MASK = "image.nii.gz", "mask.nii.gz"


def with_bytes(change):
    """Return what changes the bytes of a file, compressed or not."""
    return lambda file: file.write_bytes(change(file.read_bytes()))


def in_two_members(content):
    inside = gzip.decompress(content)
    return gzip.compress(inside[:1000]) + gzip.compress(inside[1000:])


SOUND = (
    good(
        "nifti, compressed in two members",
        afterwards(nifti(), with_bytes(in_two_members)),
        images=FILE,
    ),
    good(
        "nifti, compressed, zeros behind",
        afterwards(nifti(), with_bytes(lambda content: content + bytes(512))),
        images=FILE,
    ),
)
FAULTY = tuple(
    each
    for name, change, reason in (
        ("a wrong checksum", bit_flipped(-6), Reason.UNDECODABLE_PIXELS),
        ("a wrong length", bit_flipped(-2), Reason.UNDECODABLE_PIXELS),
        ("no checksum", lambda content: content[:-8], Reason.TRUNCATED_PIXELS),
        ("no length", lambda content: content[:-4], Reason.TRUNCATED_PIXELS),
        ("its half", lambda content: content[: len(content) // 2], Reason.TRUNCATED_PIXELS),
        ("something behind", lambda content: content + b"x" * 100, Reason.UNDECODABLE_PIXELS),
        (
            "another file behind",
            lambda content: content + gzip.compress(b"x"),
            Reason.UNSUPPORTED_PIXELS,
        ),
        ("no compression", gzip.decompress, Reason.UNDECODABLE_PIXELS),
    )
    for each in (
        fault(
            f"nifti, compressed, {name}",
            afterwards(nifti(), with_bytes(change)),
            reason,
            images=FILE,
        ),
        *(
            fault(
                f"{role}, compressed, {name}",
                together(series(), afterwards(mask(), with_bytes(change))),
                reason,
                role,
                **{role: MASK},
            )
            for role in ("truth", "labels")
        ),
    )
)

CASES = (*SOUND, *FAULTY)
