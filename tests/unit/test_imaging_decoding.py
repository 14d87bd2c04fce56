"""Code streams, good and damaged: every decoder gives the truth or says that it cannot."""

import os
import struct

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_writer import Plan, phantom, save, slice_dataset, store, write_series
from gdcm_encoder import compress_file
from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging import apart, decoder_worker
from paravert.imaging.code_streams import size_fits
from paravert.imaging.dicom import read_dicom
from paravert.imaging.formats import Format

PLAN = Plan()
# Of 256 and 4096 values: quality 95 rounds the coefficients of a block to multiples of 1 to 12.
JPEG_LOSS = {JPEGBaseline8Bit: 2, JPEGExtended12Bit: 6}
COMPRESSED = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
JPEGS = (JPEGLossless, JPEGLosslessSV1, *JPEG_LOSS)


def scaled_phantom(bits, signed=False):
    """Return the phantom's slices over the whole range of so many bits, and what edits them in."""
    slices = np.array([phantom(PLAN.points(index)) for index in range(PLAN.slices)])
    low, high = slices.min(), slices.max()
    values = (slices - low) * ((1 << bits) - 1) // (high - low)
    values = values - (1 << (bits - 1)) if signed else values

    def edit(data, number):
        allocated = 8 if bits == 8 else 16
        store(data, values[number], bits=bits, allocated=allocated, signed=signed)

    return values, edit


def write_jpeg(folder, syntax, bits, *, signed=False):
    values, edit = scaled_phantom(bits, signed)
    for file in write_series(folder, PLAN, edit=edit):
        compress_file(file, syntax)
    return values


def one_file(folder, syntax):
    """Write a slice alone in a syntax."""

    def edit(data, number):
        if syntax == JPEGBaseline8Bit:
            store(data, phantom(PLAN.points(2)) >> 4, bits=8, allocated=8)

    by_pydicom = ExplicitVRLittleEndian if syntax in JPEGS else syntax
    (file,) = write_series(folder, Plan(slices=1), edit=edit, syntax=by_pydicom)
    return compress_file(file, syntax) if syntax in JPEGS else file


def stream_of(file):
    (stream,) = generate_frames(pydicom.dcmread(file).PixelData, number_of_frames=1)
    return stream


def replace_stream(file, stream):
    data = pydicom.dcmread(file)
    data.PixelData = encapsulate([stream])
    data["PixelData"].is_undefined_length = True
    data.save_as(file)


def assert_fault(reason, folder):
    with pytest.raises(SubjectFault) as caught:
        read_dicom(folder)
    assert caught.value.reason == reason


# --- the truth -----------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", JPEG_LOSS, ids=lambda syntax: syntax.keyword)
def test_lossy_jpeg_is_the_truth_within_its_loss_and_told(tmp_path, syntax):
    truth = write_jpeg(tmp_path, syntax, 8 if syntax == JPEGBaseline8Bit else 12)
    images = read_dicom(tmp_path)
    (stack,) = images.stacks
    assert images.cautions == {Caution.LOSSY_COMPRESSED}
    assert np.abs(stack.volume.array - truth).max() <= JPEG_LOSS[syntax]
    assert np.ptp(stack.volume.array) > 0.9 * np.ptp(truth)


@pytest.mark.parametrize("syntax", [JPEGLossless, *COMPRESSED], ids=lambda s: s.keyword)
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_pixels_are_exact_whatever_their_bits_and_sign(tmp_path, syntax, bits, signed):
    if syntax in JPEGS:
        truth = write_jpeg(tmp_path, syntax, bits, signed=signed)
    else:
        truth, edit = scaled_phantom(bits, signed)
        write_series(tmp_path, PLAN, edit=edit, syntax=syntax)
    images = read_dicom(tmp_path)
    assert np.array_equal(images.stacks[0].volume.array, truth)
    assert not images.cautions


# --- damaged sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [*COMPRESSED, *JPEG_LOSS], ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("size", [{"Rows": 65535}, {"Columns": 65535}, {"Rows": 41}])
def test_a_header_of_another_size_than_the_code_stream_is_not_decoded(tmp_path, syntax, size):
    file = one_file(tmp_path, syntax)
    data = pydicom.dcmread(file)
    data.update(size)
    data.save_as(file)
    assert_fault(Reason.UNDECODABLE_PIXELS, tmp_path)


@pytest.mark.parametrize("syntax", [*COMPRESSED, *JPEG_LOSS], ids=lambda syntax: syntax.keyword)
def test_a_code_stream_says_its_own_size(tmp_path, syntax):
    stream = stream_of(one_file(tmp_path, syntax))
    rows, columns = PLAN.rows, PLAN.columns
    assert size_fits(stream, syntax, rows, columns, 2 * rows * columns)
    if syntax != RLELossless:
        assert not size_fits(stream, syntax, columns, rows, 2 * rows * columns)
        assert not size_fits(stream[:4], syntax, rows, columns, 2 * rows * columns)
    assert not size_fits(stream, syntax, 65535, 65535, 2 * 65535**2)


def test_rle_of_two_bytes_stands_for_128_at_most():
    assert size_fits(bytes(100), RLELossless, 10, 320, 6400)
    assert not size_fits(bytes(99), RLELossless, 10, 320, 6400)


@pytest.mark.parametrize(
    ("place", "form", "value"),
    [
        (24, ">II", (1, 1)),  # tiles of a pixel each
        (24, ">II", (0, 0)),  # tiles of no size
        (40, ">H", (3,)),  # components
    ],
)
def test_a_jpeg_2000_stream_of_many_tiles_or_components_does_not_fit(tmp_path, place, form, value):
    stream = bytearray(stream_of(one_file(tmp_path, JPEG2000Lossless)))
    size = (JPEG2000Lossless, PLAN.rows, PLAN.columns, 2 * PLAN.rows * PLAN.columns)
    assert size_fits(bytes(stream), *size)
    struct.pack_into(form, stream, place, *value)
    assert not size_fits(bytes(stream), *size)


def test_a_native_header_of_absurd_size_tells_truncated_pixels(tmp_path):
    data = slice_dataset(PLAN, 0)
    data.Rows = data.Columns = 65535
    save(data, tmp_path / "IM")
    assert_fault(Reason.TRUNCATED_PIXELS, tmp_path)


# --- damaged contents ----------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda s: s.keyword)
def test_half_a_code_stream_is_undecodable(tmp_path, syntax):
    file = one_file(tmp_path, syntax)
    stream = stream_of(file)
    replace_stream(file, stream[: len(stream) // 4 * 2])
    assert_fault(Reason.UNDECODABLE_PIXELS, tmp_path)


def test_a_deflated_file_cut_short_has_an_unreadable_header(tmp_path):
    """Its header is part of what is deflated, and what is left of it cannot be trusted."""
    for file in write_series(tmp_path, PLAN):
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        pydicom.dcmwrite(file, data)
    assert len(read_dicom(tmp_path).stacks[0].slices) == PLAN.slices
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert_fault(Reason.UNREADABLE_HEADER, tmp_path)


# --- the other process ---------------------------------------------------------------------------

STREAM = b"\xff\xd8 a code stream"
FORM = Format(
    JPEGLosslessSV1, 2, 2, frames=1, allocated=8, stored=8, high=7, signed=False, inverted=False
)
# A decoder that dies of some code streams; of others each value is their last byte.
STAND_IN = """
import os, signal, struct, sys
from pathlib import Path

def first_time():
    mark = Path(__file__).with_suffix(".mark")
    before = mark.exists()
    mark.touch()
    return not before

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

head = struct.Struct({head!r})
while request := sys.stdin.buffer.read(head.size):
    length = head.unpack(request)[-1]
    stream = os.pread(int(sys.argv[1]), length, 0)
    if {dies}:
        sys.exit(1)
    values = stream[-1:] * 4 if length else b""
    os.pwrite(int(sys.argv[1]), values, 0)
    sys.stdout.buffer.write(struct.pack("<Q", len(values)))
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Return what puts another program in the place of the decoder, told when that dies."""

    def put(dies):
        script = tmp_path / "decoder.py"
        script.write_text(STAND_IN.format(head=decoder_worker.HEAD.format, dies=dies))
        apart.stop()
        monkeypatch.setattr(decoder_worker, "__file__", str(script))

    yield put
    apart.stop()


def assert_answered(stream):
    values = apart.decode_apart(stream, FORM, "gdcm")
    assert np.array_equal(values, np.full((2, 2), stream[-1]))


def test_a_decoder_that_dies_of_a_file_tells_that_it_is_damaged(stand_in):
    stand_in(dies="b'deadly' in stream")
    assert apart.decode_apart(STREAM + b"deadly", FORM, "gdcm") is None
    assert_answered(STREAM)


def test_a_decoder_killed_from_outside_is_asked_once_more(stand_in):
    stand_in(dies="stream and first_time() and killed()")
    assert_answered(STREAM)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_request_leaves_no_answer_to_the_next(stand_in, monkeypatch, interruption):
    stand_in(dies="False")
    read = os.preadv

    def interrupted(*_):
        monkeypatch.setattr(os, "preadv", read)
        raise interruption

    monkeypatch.setattr(os, "preadv", interrupted)
    process = apart.start(os.getpid()).process
    with pytest.raises(interruption):
        apart.decode_apart(STREAM + b"\1", FORM, "gdcm")
    assert process.returncode is not None
    assert_answered(STREAM + b"\2")


def test_a_system_without_files_in_memory_is_served_all_the_same(stand_in, monkeypatch):
    stand_in(dies="False")
    monkeypatch.delattr(os, "memfd_create")
    assert_answered(STREAM)


def test_a_decoder_that_cannot_live_at_all_is_no_fault_of_the_data(stand_in):
    stand_in(dies="True")
    with pytest.raises(apart.DecoderDied):
        apart.decode_apart(STREAM, FORM, "gdcm")


def test_a_decoder_that_died_since_is_replaced_and_nobody_blamed(tmp_path):
    write_jpeg(tmp_path, JPEGLosslessSV1, 12)
    first = read_dicom(tmp_path)
    process = apart.start(os.getpid()).process
    process.kill()
    process.wait()
    again = read_dicom(tmp_path)
    assert np.array_equal(first.stacks[0].volume.array, again.stacks[0].volume.array)


def test_a_decoder_that_is_asked_for_gigabytes_gives_up(tmp_path):
    stream = bytearray(stream_of(one_file(tmp_path, JPEGLosslessSV1)))
    place = stream.index(b"\xff\xc3") + 5  # rows and columns in the frame header
    struct.pack_into(">HH", stream, place, 65000, 65000)
    form = Format(JPEGLosslessSV1, 65000, 65000, 1, 16, 12, 11, signed=False, inverted=False)
    assert apart.decode_apart(bytes(stream), form, "gdcm") is None


def test_a_decoder_that_ponders_over_a_file_is_stopped(tmp_path):
    """CharLS takes 3 s to find that this little slice is cut short, and cannot be interrupted."""
    file = one_file(tmp_path, JPEGLSLossless)
    replace_stream(file, stream_of(file)[:500])
    assert_fault(Reason.UNDECODABLE_PIXELS, tmp_path)


def test_a_decoder_is_stopped_and_started_at_will(tmp_path):
    write_jpeg(tmp_path, JPEGLosslessSV1, 12)
    apart.stop()
    apart.stop()
    read_dicom(tmp_path)
    apart.stop()
    assert len(read_dicom(tmp_path).stacks) == 1
