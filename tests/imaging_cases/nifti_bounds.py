"""NIfTI files that promise more than they hold, or values and places that no patient has."""

from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np

from damaged_nifti import change_content, claiming, with_fields
from dicom_writer import Plan, phantom, plan_affine, save_nifti
from imaging_cases import case
from imaging_cases.case import OBLIQUE, PLAN, Case, Write, afterwards, nifti, series, together
from imaging_cases.masks import in_mask, mask
from paravert.errors import Reason

FILE = "image.nii.gz"
PLAIN = "image.nii"
MASK = "mask.nii.gz"
good = partial(case.good, images=FILE)
fault = partial(case.fault, images=FILE)


def with_content(change, name: str = FILE, plan: Plan = PLAN, **options) -> Write:
    """Return what writes a NIfTI file and changes its header and voxels."""
    return afterwards(nifti(plan, name=name, **options), lambda file: change_content(file, change))


def fields(name: str = FILE, **values) -> Write:
    """Return what writes a NIfTI file with other values in fields of its header."""
    return with_content(lambda content: with_fields(content, **values), name)


def of_zeros(*lengths):
    """Return what writes a file of 2.5 mm voxels, all zeros, on a disk that sets none aside."""

    def write(home):
        save_nifti(home / PLAIN, np.zeros((1, 1, 1), np.uint8), plan_affine(PLAN))
        content = claiming(*lengths)((home / PLAIN).read_bytes()[:352])
        with (home / PLAIN).open("wb") as file:
            file.write(content)
            file.truncate(352 + int(np.prod(lengths)))

    return write


def scaled(slope, intercept=0.0, name=PLAIN):
    return fields(name, scl_slope=slope, scl_inter=intercept)


def doubled(content):
    return with_fields(content, scl_slope=2, scl_inter=-1)


def with_extension(home):
    file = nifti()(home)
    image = nib.load(file)
    extension = nib.nifti1.Nifti1Extension("comment", b"lumbar spine " * 100)
    image = nib.Nifti1Image(image.get_fdata().astype(np.int16), image.affine, image.header)
    image.header.extensions.append(extension)
    nib.save(image, file)


def big_endian(home):
    image = nib.load(nifti(OBLIQUE)(home))
    header = image.header.as_byteswapped(">")
    nib.save(nib.Nifti1Image(image.get_fdata().astype(np.int16), image.affine, header), home / FILE)


def version_2(**values):
    """Return what writes version 2, with other values in fields of its header."""

    def write(home):
        image = nib.load(nifti()(home))
        nib.save(nib.Nifti2Image(image.get_fdata().astype(np.int16), image.affine), home / FILE)
        change_content(home / FILE, lambda content: with_fields(content, **values))

    return write


def qform_alone(**values):
    return fields(sform_code=0, **values)


# What a scanner may write: the pixel spacing of PLAN in the field pixdim.
PIXDIM = [1, 2.5, 3.5, 6, 0, 0, 0, 0]

SOUND = (
    good("nifti, an extension of the header", with_extension),
    good("nifti, big endian", big_endian),
    good("nifti, a scale of NaN", fields(scl_slope=np.nan, scl_inter=np.nan)),
    good(
        "nifti, scaled, compressed",
        with_content(doubled),
        values=lambda points: 2 * phantom(points) - 1,
    ),
    good("nifti, a qform alone whose handedness is 0", qform_alone(pixdim=[0, *PIXDIM[1:]])),
)
HUGE = (
    fault(
        "nifti, lengths of 32767",
        with_content(claiming(32767, 32767, 32767), PLAIN),
        Reason.TRUNCATED_PIXELS,
        images=PLAIN,
    ),
    fault(
        "nifti, more voxels than memory is set aside for",
        of_zeros(800, 700, 400),
        Reason.UNSUPPORTED_PIXELS,
        "224000000 voxels of 1 bytes, expected at most 201326592",
        images=PLAIN,
    ),
    fault(
        "nifti, compressed, more bytes than its voxels",
        with_content(lambda content: content + bytes(1 << 24)),
        Reason.UNSUPPORTED_PIXELS,
        "more bytes than those of the 9600 voxels",
    ),
    fault(
        "nifti, more bytes than its voxels",
        with_content(lambda content: content + b"\0", PLAIN),
        Reason.UNSUPPORTED_PIXELS,
        "more bytes",
        images=PLAIN,
    ),
    fault("nifti, a byte too few", with_content(lambda c: c[:-1]), Reason.TRUNCATED_PIXELS),
    *(
        fault(f"nifti, voxels from byte {place:g}", fields(vox_offset=place), reason)
        for place, reason in (
            (np.nan, Reason.UNREADABLE_HEADER),
            (np.inf, Reason.UNREADABLE_HEADER),
            (1e30, Reason.UNREADABLE_HEADER),
            (0, Reason.UNREADABLE_HEADER),
            (-352, Reason.UNREADABLE_HEADER),
            (1e6, Reason.TRUNCATED_PIXELS),
        )
    ),
    fault("nifti, an unknown unit", fields(xyzt_units=5), Reason.UNREADABLE_HEADER),
    fault("nifti, an unknown type", fields(datatype=77), Reason.UNREADABLE_HEADER),
    fault("nifti, voxels in another file", fields(magic=b"ni1"), Reason.UNREADABLE_HEADER),
    fault("nifti, an empty axis", with_content(claiming(48, 0, 5)), Reason.UNSUPPORTED_PIXELS),
)
VALUES = (
    *(
        fault(
            f"nifti, a slope of {slope:g} and an intercept of {intercept:g}",
            scaled(slope, intercept),
            Reason.UNSUPPORTED_PIXELS,
            told,
            images=PLAIN,
        )
        for slope, intercept, told in (
            (np.inf, 0, "no finite number"),
            (1, np.nan, "no finite number"),
            (3e38, 0, "values up to inf after the rescale"),
            (-1e30, 0, "after the rescale, expected at most 1e+10"),
            (1, 1e20, "after the rescale, expected at most 1e+10"),
            (1e-30, 0, "expected at least 1e-10"),
        )
    ),
    fault(
        "nifti, doubles beyond single precision",
        nifti(function=lambda points: phantom(points) * 1e40, dtype=np.float64),
        Reason.UNSUPPORTED_PIXELS,
        "values up to inf after the rescale",
    ),
    fault(
        "nifti, doubles below single precision",
        nifti(function=lambda points: phantom(points) * 1e-60, dtype=np.float64),
        Reason.BLANK_IMAGES,
    ),
)


def _far(name: str, plan: Plan, reason: Reason = Reason.BAD_GEOMETRY_POSITION) -> Case:
    return fault(f"nifti, {name}", nifti(plan), reason)


PLACES = (
    _far("100 m away", replace(PLAN, centre=(0, 0, 1e5))),
    _far("3.1 m away", replace(PLAN, centre=(0, 3100, 0))),
    _far("slices over 3.2 m", replace(PLAN, slices=33, gap=100)),
    _far("slices 120 mm apart", replace(PLAN, gap=120), Reason.BAD_PIXEL_SPACING),
    _far("slices 0.01 mm apart", replace(PLAN, gap=0.01), Reason.BAD_PIXEL_SPACING),
    fault(
        "nifti, version 2, an sform of 1e200",
        version_2(srow_x=[1e200, 0, 0, 0], qform_code=0),
        Reason.BAD_GEOMETRY_POSITION,
    ),
    fault(
        "nifti, an infinite sform",
        fields(srow_y=[0, np.inf, 0, 0]),
        Reason.BAD_GEOMETRY_ORIENTATION,
    ),
    fault(
        "nifti, an infinite qform beside a good sform",
        fields(qoffset_x=np.inf),
        Reason.BAD_GEOMETRY_ORIENTATION,
    ),
    fault(
        "nifti, a qform alone with a spacing of 0",
        qform_alone(pixdim=[1, 2.5, 0, 6, 0, 0, 0, 0]),
        Reason.BAD_GEOMETRY_ORIENTATION,
        "spacing of 0",
    ),
    fault(
        "nifti, a qform alone with a negative spacing",
        qform_alone(pixdim=[1, 2.5, -3.5, 6, 0, 0, 0, 0]),
        Reason.BAD_GEOMETRY_ORIENTATION,
        "qform is damaged",
    ),
    fault(
        "nifti, a qform alone whose handedness is 5",
        qform_alone(pixdim=[5, *PIXDIM[1:]]),
        Reason.BAD_GEOMETRY_ORIENTATION,
        "qform is damaged",
    ),
)
MASKS = (
    *(
        case.fault(
            f"{role} that claims lengths of 32767",
            together(series(), in_mask(claiming(32767, 32767, 32767))),
            Reason.TRUNCATED_PIXELS,
            role,
            **{role: MASK},
        )
        for role in ("truth", "labels")
    ),
    case.fault(
        "labels with a slope of 1e30",
        together(
            series(),
            in_mask(lambda content: with_fields(content, scl_slope=1e30, scl_inter=0)),
        ),
        Reason.MASK_UNKNOWN_LABEL,
        "labels",
        labels=MASK,
    ),
    case.fault(
        "truth with values that are no numbers",
        together(
            series(),
            mask(function=lambda points: np.where(points[..., 0] > 0, np.nan, 0), dtype=np.float32),
        ),
        Reason.MASK_UNKNOWN_LABEL,
        "such as nan",
        truth=MASK,
    ),
)

CASES = (*SOUND, *HUGE, *VALUES, *PLACES, *MASKS)
