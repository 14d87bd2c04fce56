"""Code streams of compressed frames: their size, checked before decoding, and decoding of RLE.

Decoders allocate memory for the declared size before they read the data. A damaged size, in the
header or in the code stream, would cost gigabytes: so both must agree first.
"""

import struct

import numpy as np
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

LARGEST_FRAME_BYTES = 32 << 20  # 4096 x 4096 pixels of 16 bits; MR matrices end at 2048
ITEM = b"\xfe\xff\x00\xe0"
PACKBITS_GAIN = 64  # two bytes of RLE decode to at most 128 (PS3.5, annex G.3)
J2K_START = b"\xff\x4f\xff\x51"  # SOC and SIZ
J2K_START_WITHIN = 1024  # some writers put the boxes of a JP2 file before the code stream
J2K_LARGEST_TILES = 1024  # 16 x 16 pixels each in a matrix of 512; decoders keep kilobytes per tile
JPEG_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF of JPEG and JPEG-LS
JPEG_SCAN_MARKER = 0xDA
RLE_HEADER = struct.Struct("<16I")  # number of segments and where each begins
RLE_LITERAL = (
    128  # below: count + 1 literal bytes follow; above: the next byte repeats 257 - count times
)
RLE_PADDING_BYTES = 4  # segments are padded to an even length, by some writers further


def size_fits(stream: bytes, syntax: UID, rows: int, columns: int, frame_bytes: int) -> bool:
    """Tell whether the size that a code stream declares is rows x columns, and plausible."""
    if frame_bytes > LARGEST_FRAME_BYTES:
        return False
    if syntax == RLELossless:
        return frame_bytes <= PACKBITS_GAIN * len(stream)
    if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return _jpeg_size(stream) == (rows, columns)
    if syntax in JPEG2000TransferSyntaxes or stream.startswith(J2K_START):
        return _j2k_size(stream) == (rows, columns)
    return True


def starts_with_items(value: bytes) -> bool:
    """Tell whether pixel data begin like encapsulated ones: an offset table and another item."""
    if len(value) < 16 or not value.startswith(ITEM):
        return False
    (table,) = struct.unpack_from("<I", value, 4)
    return value[8 + table : 12 + table] == ITEM


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) in the first frame header of a JPEG or JPEG-LS stream, or None."""
    place = 2  # behind SOI
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker in JPEG_FRAME_MARKERS:
            return struct.unpack_from(">HH", stream, place + 5)
        if marker == JPEG_SCAN_MARKER:
            return None
        # 0xFF may be repeated before a marker
        place += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", stream, place + 2)[0]
    return None


def _j2k_size(stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a JPEG 2000 stream; None unless one component and few tiles."""
    start = stream.find(J2K_START, 0, J2K_START_WITHIN)
    if start < 0 or len(stream) < start + 45:
        return None
    right, low, left, top, across, down, *_, components = struct.unpack_from(
        ">8IH", stream, start + 8
    )
    if components != 1 or not across or not down:
        return None
    tiles = -(-right // across) * -(-low // down)
    return (low - top, right - left) if tiles <= J2K_LARGEST_TILES else None


# --- RLE -----------------------------------------------------------------------------------------


def decode_rle(stream: bytes, rows: int, columns: int, allocated: int) -> np.ndarray | None:
    """Return the unsigned values (rows, columns) of an RLE stream, or None where it is damaged.

    Damage shows in a segment of another length than a frame has pixels; most decoders pad or truncate
    such a segment without an error. Source: PS3.5, annex G.
    """
    segments = _segments(stream, allocated // 8)
    if segments is None:
        return None
    planes = [_decoded_segment(segment, rows * columns) for segment in segments]
    if None in planes:
        return None
    values = np.empty((rows * columns, len(planes)), np.uint8)
    for place, plane in enumerate(reversed(planes)):
        values[:, place] = plane
    return values.view(f"<u{len(planes)}").reshape(rows, columns)


def _segments(stream: bytes, count: int) -> list[bytes] | None:
    """Return the segments, most significant byte first; None if the header is damaged."""
    if len(stream) < RLE_HEADER.size:
        return None
    told, *begins = RLE_HEADER.unpack_from(stream)
    places = [*begins[:count], len(stream)]
    if told != count or places[0] < RLE_HEADER.size or sorted(places) != places:
        return None
    return [stream[a:b] for a, b in zip(places, places[1:], strict=False)]


def _decoded_segment(segment: bytes, length: int) -> bytearray | None:
    """Return the bytes of a segment, or None unless it decodes to exactly `length`."""
    values, place = bytearray(), 0
    try:
        while len(values) < length:
            count = segment[place]
            if count < RLE_LITERAL:
                values += segment[place + 1 : place + 2 + count]
                place += 2 + count
            elif count > RLE_LITERAL:
                values += segment[place + 1 : place + 2] * (257 - count)
                place += 2
            else:
                place += 1
    except IndexError:
        return None
    spare = len(segment) - place
    return values if len(values) == length and 0 <= spare <= RLE_PADDING_BYTES else None
