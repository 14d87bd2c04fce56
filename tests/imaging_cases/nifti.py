"""NIfTI files as images: the same checks, and the faults of the format."""

from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np

from dicom_writer import Plan, phantom, plan_affine, save_nifti, turn
from imaging_cases import case
from imaging_cases.case import OBLIQUE, PLAN, SAGITTAL, Write, afterwards, nifti
from paravert.errors import Caution, Reason

FILE = "image.nii.gz"
PLAIN = "image.nii"
good = partial(case.good, images=FILE)
fault = partial(case.fault, images=FILE)


def changed(change, plan: Plan = PLAN, **options) -> Write:
    """Return what writes a NIfTI file, then changes the image as nibabel has it."""

    def rewrite(path):
        image = nib.load(path)
        array = np.asanyarray(image.dataobj).copy()
        nib.save(change(nib.Nifti1Image(array, image.affine, image.header)), path)

    return afterwards(nifti(plan, **options), rewrite)


def array_file(array, affine=None, name=FILE) -> Write:
    affine = np.eye(4) if affine is None else affine
    return lambda home: nib.save(nib.Nifti1Image(array, affine), home / name)


def with_slice_axis(image):
    image.header.set_dim_info(slice=2)
    return image


def with_units(image):
    image.header.set_xyzt_units("meter")
    return image


def without_forms(image):
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    return image


def qform_only(image):
    image.set_sform(None, code=0)
    return image


def sform_only(image):
    image.set_qform(None, code=0)
    return image


def mirrored_qform(image):
    image.set_qform(np.diag([-1, 1, 1, 1]) @ image.affine, code=1)
    return image


def one_more_axis(image):
    return nib.Nifti1Image(np.asanyarray(image.dataobj)[..., None], image.affine)


def as_nifti2(image):
    return nib.Nifti2Image(np.asanyarray(image.dataobj), image.affine)


def one_blank_slice(image):
    array = np.asanyarray(image.dataobj)
    array[..., 0] = 0
    return image


def shown_or_blank(points):
    return np.where(np.isclose(points[..., 2], -5), 0, phantom(points))


def with_raw_scale(path):
    """Set scl_slope and scl_inter in the bytes of the header."""
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.25, 100], "<f4").tobytes()
    path.write_bytes(content)


def quartered(points):
    return phantom(points) / 4 + 100


def cut(keep):
    def change(path):
        content = path.read_bytes()
        path.write_bytes(content[: keep if keep > 1 else int(keep * len(content))])

    return change


def sheared(home):
    affine = plan_affine(PLAN)
    affine[1, 2] += 0.5
    save = nib.Nifti1Image(np.ones((48, 40, 5), np.int16), affine)
    nib.save(save, home / FILE)


def not_a_number(home):
    array = np.ones((48, 40, 5), np.float32)
    array[3, 3, 3] = np.nan
    save_nifti(home / FILE, array, plan_affine(PLAN))


CASES = (
    good("nifti", nifti()),
    good("nifti, not compressed", nifti(name=PLAIN), images=PLAIN),
    good("nifti, floats", nifti(dtype=np.float32)),
    good("nifti, unsigned", nifti(dtype=np.uint16)),
    good("nifti, mirrored", nifti(replace(OBLIQUE, gap=-6))),
    good("nifti, a trailing axis of one", changed(one_more_axis, OBLIQUE)),
    good("nifti, version 2", changed(as_nifti2, OBLIQUE)),
    good("nifti, a qform alone", changed(qform_only, OBLIQUE)),
    good("nifti, an sform alone", changed(sform_only, OBLIQUE)),
    good(
        "nifti, the slice axis told by the header alone",
        changed(with_slice_axis, Plan(gap=2.5).turned(turn("x", 48))),
        slab_mm=2.5,
    ),
    good(
        "nifti, equal spacings",
        nifti(Plan(gap=2.5, row_spacing=2.5).turned(turn("x", 20)), order=(2, 0, 1)),
        slab_mm=2.5,
    ),
    good(
        "nifti, scaled",
        afterwards(nifti(name=PLAIN), with_raw_scale),
        images=PLAIN,
        values=quartered,
        dtype=np.float32,
    ),
    good(
        "nifti, a blank slice",
        changed(one_blank_slice),
        Caution.BLANK_SLICE,
        values=shown_or_blank,
    ),
    fault(
        "nifti, blank",
        array_file(np.zeros((48, 40, 5), np.int16), plan_affine(PLAN)),
        Reason.BLANK_IMAGES,
    ),
    fault("nifti, two axes", array_file(np.ones((8, 8), np.int16)), Reason.UNSUPPORTED_PIXELS),
    fault(
        "nifti, four axes", array_file(np.ones((8, 8, 4, 2), np.int16)), Reason.UNSUPPORTED_PIXELS
    ),
    fault(
        "nifti, colour",
        array_file(np.ones((8, 8, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        Reason.UNSUPPORTED_PIXELS,
    ),
    fault("nifti, complex", array_file(np.ones((8, 8, 4), complex)), Reason.UNSUPPORTED_PIXELS),
    fault("nifti, not a number", not_a_number, Reason.UNSUPPORTED_PIXELS),
    fault("nifti, sagittal", nifti(replace(SAGITTAL, row_spacing=2.5)), Reason.NO_AXIAL_SERIES),
    fault("nifti, no orientation", changed(without_forms), Reason.BAD_GEOMETRY_ORIENTATION),
    fault(
        "nifti, forms that disagree on the side",
        changed(mirrored_qform),
        Reason.BAD_GEOMETRY_ORIENTATION,
        "apart",
    ),
    fault("nifti, sheared", sheared, Reason.BAD_GEOMETRY_ORIENTATION, "right angles"),
    fault("nifti, metres", changed(with_units), Reason.BAD_PIXEL_SPACING),
    fault(
        "nifti, pixels of 20 mm",
        nifti(Plan(rows=5, columns=6, row_spacing=20, column_spacing=20, gap=40)),
        Reason.BAD_PIXEL_SPACING,
    ),
    fault(
        "nifti, header cut off",
        afterwards(nifti(name=PLAIN), cut(300)),
        Reason.UNREADABLE_HEADER,
        images=PLAIN,
    ),
    fault(
        "nifti, two bytes",
        afterwards(nifti(name=PLAIN), cut(2)),
        Reason.UNREADABLE_HEADER,
        images=PLAIN,
    ),
    fault(
        "nifti, cut off",
        afterwards(nifti(name=PLAIN), cut(0.5)),
        Reason.TRUNCATED_PIXELS,
        images=PLAIN,
    ),
    fault("nifti, compressed and cut off", afterwards(nifti(), cut(0.5)), Reason.TRUNCATED_PIXELS),
    fault(
        "a folder of NIfTI files",
        nifti(name="images/image.nii.gz"),
        Reason.NO_DICOM,
        images="images",
    ),
)
