"""Code streams, good and damaged: every decoder gives the truth or says that it cannot."""

import logging
import os
import random
import struct
import warnings

import numpy as np
import openjpeg
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
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
from paravert.errors import Caution, InputError, Reason, SubjectFault
from paravert.imaging import code_streams, decoder_process, decoder_worker, decoding
from paravert.imaging.code_streams import decode_rle, size_fits
from paravert.imaging.decoding import check_decoders, read_frames
from paravert.imaging.dicom import read_dicom
from paravert.imaging.dicom_scan import scan_folder
from paravert.imaging.pixel_format import PixelFormat

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
@pytest.mark.parametrize("size", [{"Rows": 9999}, {"Columns": 9999}, {"Rows": 41}])
def test_a_header_of_another_size_than_the_code_stream_is_not_decoded(tmp_path, syntax, size):
    file = one_file(tmp_path, syntax)
    data = pydicom.dcmread(file)
    data.update(size)
    data.PixelSpacing = [0.1, 0.1] if 9999 in size.values() else [3.5, 2.5]
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
    data.Rows = data.Columns = 9999
    data.PixelSpacing = [0.1, 0.1]
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


# --- damage that decoders accept -----------------------------------------------------------------

LARGE = Plan(rows=256, columns=256, row_spacing=0.6, column_spacing=0.5, slices=1)
ACCEPTED = (RLELossless, JPEGLosslessSV1, JPEGExtended12Bit, JPEG2000Lossless, JPEG2000)


def noisy():
    """Return the phantom with noise, which does not compress much: (256, 256), 12 bits."""
    noise = np.random.default_rng(1).normal(0, 20, (256, 256))
    return np.clip(phantom(LARGE.points(0)) + noise, 0, 4095).astype(np.uint16)


def noisy_file(folder, syntax):
    """Write one noisy slice in a syntax."""
    by_pydicom = ExplicitVRLittleEndian if syntax in (*JPEGS, JPEG2000) else syntax
    (file,) = write_series(folder, LARGE, edit=lambda d, _: store(d, noisy()), syntax=by_pydicom)
    if syntax == JPEG2000:
        data = pydicom.dcmread(file)
        data.compress(syntax, j2k_cr=[5], generate_instance_uid=False)
        data.save_as(file)
    return compress_file(file, syntax) if syntax in JPEGS else file


@pytest.mark.parametrize("syntax", ACCEPTED, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_four_thousand_zeros_within_a_code_stream_are_undecodable(tmp_path, syntax, share):
    file = noisy_file(tmp_path, syntax)
    stream = stream_of(file)
    place = int(share * len(stream))
    replace_stream(file, stream[:place] + bytes(4000) + stream[place + 4000 :])
    assert_fault(Reason.UNDECODABLE_PIXELS, tmp_path)


def test_sixteen_wrong_bytes_anywhere_in_jpeg_2000_are_found():
    chance, values = random.Random(1), noisy()
    stream = openjpeg.utils.encode_array(values, bits_stored=12, photometric_interpretation=2)
    for _ in range(20):
        place = chance.randrange(200, len(stream) - 20)
        damaged = stream[:place] + chance.randbytes(16) + stream[place + 16 :]
        assert code_streams.decode_jpeg2000(damaged, signed=False) is None


def test_jpeg_2000_is_decoded_on_a_system_without_files_in_memory(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    stream = openjpeg.utils.encode_array(noisy(), bits_stored=12, photometric_interpretation=2)
    found = code_streams.decode_jpeg2000(bytes(stream), signed=False)
    assert np.array_equal(found, noisy())


def test_zeros_in_place_of_all_packets_of_jpeg_2000_are_no_blank_slice():
    stream = openjpeg.utils.encode_array(noisy(), bits_stored=12, photometric_interpretation=2)
    head = stream[: stream.index(b"\xff\x93") + 2]
    assert openjpeg.decode(head + bytes(len(stream) - len(head) - 2) + b"\xff\xd9") is not None
    for end in (b"\xff\xd9", b"\0\0"):
        damaged = head + bytes(len(stream) - len(head) - 2) + end
        assert code_streams.decode_jpeg2000(damaged, signed=False) is None


@pytest.mark.parametrize("ratios", [None, [8], [20, 10, 5, 1], [64, 32, 16, 8, 4, 2]])
@pytest.mark.parametrize("form", [{}, {"codec_format": 1}, {"add_plt": True, "add_tlm": True}])
@pytest.mark.parametrize("shown", [noisy(), np.zeros((256, 256)), np.full((64, 100), 77)])
@pytest.mark.parametrize("padding", [b"", bytes(1), bytes(500), b"\xff\xff"])
def test_good_jpeg_2000_of_any_writer_is_decoded(ratios, form, shown, padding):
    values = shown.astype(np.uint16)
    options = {"bits_stored": 12, "photometric_interpretation": 2, "compression_ratios": ratios}
    stream = bytes(openjpeg.utils.encode_array(values, **options, **form))
    found = code_streams.decode_jpeg2000(stream + padding, signed=False)
    assert np.array_equal(found, openjpeg.decode(stream))
    assert ratios or np.array_equal(found, values)


@pytest.mark.parametrize(
    "name",
    [
        "JPEG2000.dcm",  # Kakadu
        "J2K_pixelrep_mismatch.dcm",  # JasPer; the header says signed, the stream not
        "693_J2KI.dcm",  # OpenJPEG in GDCM, three layers
        "MR_small_jp2klossless.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ],
)
def test_real_files_of_other_writers_are_decoded_as_by_pydicom(tmp_path, name):
    data = pydicom.dcmread(get_testdata_file(name))
    (file,) = write_series(tmp_path, Plan(slices=1, row_spacing=1, column_spacing=1))
    carrier = pydicom.dcmread(file)
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        setattr(carrier, keyword, data[keyword].value)
    carrier.PixelRepresentation = data.PixelRepresentation
    carrier.PixelData, carrier["PixelData"].is_undefined_length = data.PixelData, True
    carrier.file_meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    carrier["PixelData"].VR = "OB"
    carrier.save_as(file)
    assert np.array_equal(read_dicom(tmp_path).stacks[0].volume.array[0], data.pixel_array)


@pytest.mark.parametrize(("stream_signed", "header_signed"), [(False, True), (True, False)])
def test_the_sign_of_the_header_holds_in_jpeg_2000(stream_signed, header_signed):
    shown = np.arange(-2048, 2048).reshape(64, 64)
    low = np.where(shown < 0, shown + 4096, shown)  # the 12 bits as they are
    values, truth = (shown, low) if stream_signed else (low, shown)
    values = values.astype(np.int16 if stream_signed else np.uint16)
    stream = openjpeg.utils.encode_array(values, bits_stored=12, photometric_interpretation=2)
    found = code_streams.decode_jpeg2000(stream, signed=header_signed)
    assert np.array_equal(found, truth)


@pytest.mark.parametrize("padding", [b"\0", bytes(15), b"\xff" * 3])
def test_padding_around_the_end_of_a_jpeg_stream_is_no_damage(tmp_path, padding):
    file = noisy_file(tmp_path, JPEGLosslessSV1)
    stream = stream_of(file).rstrip(b"\0")
    replace_stream(file, stream[:-2] + padding + stream[-2:] + padding)
    assert np.array_equal(read_dicom(tmp_path).stacks[0].volume.array[0], noisy())


def test_bytes_that_a_jpeg_decoder_leaves_are_damage(tmp_path):
    file = noisy_file(tmp_path, JPEGLosslessSV1)
    stream = stream_of(file).rstrip(b"\0")
    replace_stream(file, stream[:-2] + b"12345678" + stream[-2:])
    assert_fault(Reason.UNDECODABLE_PIXELS, tmp_path)


RLE_HEAD = struct.pack("<16I", 1, 64, *[0] * 14)


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0\0", b"\x80\0"])
def test_rle_is_what_its_definition_says(padding):
    segment = b"\x02abc" + b"\xfdx" + b"\x80" + b"\x00y"  # three literals, 4 x, nothing, a literal
    found = decode_rle(RLE_HEAD + segment + padding, 2, 4, 8)
    assert found.tobytes() == b"abcxxxxy"


@pytest.mark.parametrize(
    "stream",
    [
        RLE_HEAD[:60],
        RLE_HEAD,
        RLE_HEAD + b"\x02abc\xfdx",  # 7 of 8 bytes
        RLE_HEAD + b"\x02abc\xfbx",  # 9 of 8
        RLE_HEAD + b"\x02abc\xfcx" + b"\x00y" * 3,  # 3 values too many
        RLE_HEAD + b"\x02abc\x07x",  # literals that are not there
        struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x02abc\xfcx",  # two segments for 8 bits
        struct.pack("<16I", 1, 20, *[0] * 14) + b"\x02abc\xfcx",  # within the header
        struct.pack("<16I", 1, 900, *[0] * 14) + b"\x02abc\xfcx",  # beyond the end
    ],
)
def test_rle_of_another_length_is_damaged(stream):
    assert decode_rle(stream, 2, 4, 8) is None


def test_the_absence_of_a_decoder_is_told_before_anything_is_read(monkeypatch):
    check_decoders()
    monkeypatch.setitem(code_streams.SIGNATURES, "no_such_function", (None,))
    code_streams.openjpeg.cache_clear()
    with pytest.raises(InputError, match="pylibjpeg-openjpeg"):
        check_decoders()
    monkeypatch.undo()
    code_streams.openjpeg.cache_clear()


# --- the other process ---------------------------------------------------------------------------

STREAM = b"\xff\xd8 a code stream"
FORM = PixelFormat(
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
        script.write_text(STAND_IN.format(head=decoder_worker.REQUEST.format, dies=dies))
        decoder_process.stop_decoder()
        monkeypatch.setattr(decoder_worker, "__file__", str(script))

    yield put
    decoder_process.stop_decoder()


def assert_answered(stream):
    values = decoder_process.decode_in_process(stream, FORM, "gdcm")
    assert np.array_equal(values, np.full((2, 2), stream[-1]))


def test_a_decoder_that_dies_of_a_file_tells_that_it_is_damaged(stand_in):
    stand_in(dies="b'deadly' in stream")
    assert decoder_process.decode_in_process(STREAM + b"deadly", FORM, "gdcm") is None
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
    process = decoder_process.start_decoder(os.getpid()).process
    with pytest.raises(interruption):
        decoder_process.decode_in_process(STREAM + b"\1", FORM, "gdcm")
    assert process.returncode is not None
    assert_answered(STREAM + b"\2")


def test_a_system_without_files_in_memory_is_served_all_the_same(stand_in, monkeypatch):
    stand_in(dies="False")
    monkeypatch.delattr(os, "memfd_create")
    assert_answered(STREAM)


def test_a_decoder_that_cannot_live_at_all_is_no_fault_of_the_data(stand_in):
    stand_in(dies="True")
    with pytest.raises(decoder_process.DecoderDied):
        decoder_process.decode_in_process(STREAM, FORM, "gdcm")


def test_a_decoder_that_died_since_is_replaced_and_nobody_blamed(tmp_path):
    write_jpeg(tmp_path, JPEGLosslessSV1, 12)
    first = read_dicom(tmp_path)
    process = decoder_process.start_decoder(os.getpid()).process
    process.kill()
    process.wait()
    again = read_dicom(tmp_path)
    assert np.array_equal(first.stacks[0].volume.array, again.stacks[0].volume.array)


def test_a_decoder_that_is_asked_for_gigabytes_gives_up(tmp_path):
    stream = bytearray(stream_of(one_file(tmp_path, JPEGLosslessSV1)))
    place = stream.index(b"\xff\xc3") + 5  # rows and columns in the frame header
    struct.pack_into(">HH", stream, place, 65000, 65000)
    form = PixelFormat(JPEGLosslessSV1, 65000, 65000, 1, 16, 12, 11, signed=False, inverted=False)
    assert decoder_process.decode_in_process(bytes(stream), form, "gdcm") is None


def test_a_decoder_that_ponders_over_a_file_is_stopped(tmp_path):
    """CharLS takes 3 s to find that this little slice is cut short, and cannot be interrupted."""
    file = one_file(tmp_path, JPEGLSLossless)
    replace_stream(file, stream_of(file)[:500])
    assert_fault(Reason.UNDECODABLE_PIXELS, tmp_path)


def test_a_decoder_is_stopped_and_started_at_will(tmp_path):
    write_jpeg(tmp_path, JPEGLosslessSV1, 12)
    decoder_process.stop_decoder()
    decoder_process.stop_decoder()
    read_dicom(tmp_path)
    decoder_process.stop_decoder()
    assert len(read_dicom(tmp_path).stacks) == 1


def test_messages_of_pydicom_are_silenced_while_pixels_are_read(
    tmp_path, monkeypatch, caplog, recwarn
):
    """They quote values of the header, such as names."""
    frames = scan_folder(one_file(tmp_path, RLELossless)).frames

    def telling(header, members):
        logging.getLogger("pydicom").warning("Jane")
        warnings.warn("Jane", stacklevel=1)
        return read_frames(header, members)

    monkeypatch.setattr(decoding, "read_frames", telling)
    assert decoding.read_pixels(frames)[frames[0]][0].shape == (frames[0].rows, frames[0].columns)
    assert not caplog.records
    assert not recwarn.list
