"""RLE code streams (PS3.5, annex G): segments must decode to as many bytes as a frame has pixels.

Damage is seen by that length alone: a run of another length is taken for good by most decoders,
which cut off what is too long.
"""

import struct

import numpy as np

HEADER = struct.Struct("<16I")  # number of segments and where each begins
LITERAL_END = 128  # a byte below counts those that follow, one above repeats the next; 128 is none
# Segments are padded to an even length, by some writers with a byte more.
PADDING_BYTES = 4


def decode(stream: bytes, rows: int, columns: int, allocated: int) -> np.ndarray | None:
    """Return unsigned values (rows, columns) of so many bits, or None where a stream is damaged."""
    segments = _segments(stream, allocated // 8)
    if segments is None:
        return None
    planes = [_unpacked(segment, rows * columns) for segment in segments]
    if None in planes:
        return None
    values = np.empty((rows * columns, len(planes)), np.uint8)
    for place, plane in enumerate(reversed(planes)):
        values[:, place] = plane
    return values.view(f"<u{len(planes)}").reshape(rows, columns)


def _segments(stream: bytes, count: int) -> list[bytes] | None:
    """Return segments, that of the most significant byte first; None if the header is damaged."""
    if len(stream) < HEADER.size:
        return None
    told, *begins = HEADER.unpack_from(stream)
    places = [*begins[:count], len(stream)]
    if told != count or places[0] < HEADER.size or sorted(places) != places:
        return None
    return [stream[a:b] for a, b in zip(places, places[1:], strict=False)]


def _unpacked(segment: bytes, length: int) -> bytearray | None:
    """Return the bytes of a segment, or None unless it holds just so many."""
    values, place = bytearray(), 0
    try:
        while len(values) < length:
            count = segment[place]
            if count < LITERAL_END:
                values += segment[place + 1 : place + 2 + count]
                place += 2 + count
            elif count > LITERAL_END:
                values += segment[place + 1 : place + 2] * (257 - count)
                place += 2
            else:
                place += 1
    except IndexError:
        return None
    spare = len(segment) - place
    return values if len(values) == length and 0 <= spare <= PADDING_BYTES else None
