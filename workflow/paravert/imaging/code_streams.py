"""What a compressed frame says of its own size, and whether that can be true.

Decoders set memory aside for the size that they are told before they look at the data. A damaged
size, of the header or of the code stream, would cost gigabytes: so both must agree beforehand.
"""

import struct

from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

LARGEST_FRAME_BYTES = 32 << 20  # 4096 x 4096 pixels of 16 bits; MR matrices end at 2048
ITEM = b"\xfe\xff\x00\xe0"
PACKBITS_GAIN = 64  # two bytes of RLE stand for at most 128 (PS3.5, annex G.3)
J2K_START = b"\xff\x4f\xff\x51"  # SOC and SIZ
J2K_START_WITHIN = 1024  # some writers put the boxes of a JP2 file before the code stream
J2K_LARGEST_TILES = 1024  # of 16 x 16 pixels in a matrix of 512; a decoder keeps kilobytes for each
JPEG_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF of JPEG and JPEG-LS
JPEG_SCAN_MARKER = 0xDA


def size_fits(stream: bytes, syntax: UID, rows: int, columns: int, frame_bytes: int) -> bool:
    """Tell whether a code stream can hold a frame of so many rows, columns and decoded bytes."""
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
    """Tell whether pixel data begin as compressed ones do: an offset table and another item."""
    if len(value) < 16 or not value.startswith(ITEM):
        return False
    (table,) = struct.unpack_from("<I", value, 4)
    return value[8 + table : 12 + table] == ITEM


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """Return rows and columns of the first frame header of a JPEG or JPEG-LS stream."""
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
    """Return rows and columns of a JPEG 2000 stream of one component in a sane number of tiles."""
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
