"""Damage of NIfTI files: fields of the header, sizes, values, and the gzip container.

Each kind of damage takes bytes, a place in them and a source of chance, and returns other bytes: of
a header and its voxels (NIFTI_DAMAGES), or of a compressed file (GZIP_DAMAGES).
"""

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from isal import igzip
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

BOMB_BYTES = 1 << 30  # the largest content that a compressed file is given
EXTREMES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 1e-40, 1e10, 1e4, -1.0)


# --- a file, its header and its voxels -----------------------------------------------------------


def change_content(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a NIfTI file, of a compressed one what is in it."""
    if file.suffix == ".gz":
        file.write_bytes(igzip.compress(change(gzip.decompress(file.read_bytes())), 1))
    else:
        file.write_bytes(change(file.read_bytes()))


def header_of(content: bytes) -> Nifti1Header:
    """Return the header of a NIfTI file's content, as it is."""
    kind = Nifti1Header if Nifti1Header.may_contain_header(content) else Nifti2Header
    return kind(content[: kind.sizeof_hdr], check=False)


def with_fields(content: bytes, **values: object) -> bytes:
    """Return content whose header holds other values in some fields."""
    header = header_of(content)
    for name, value in values.items():
        header[name] = value
    return header.binaryblock + content[len(header.binaryblock) :]


def claiming(*lengths: int) -> Callable[[bytes], bytes]:
    """Return what lets a header claim an array of these lengths."""
    dim = [len(lengths), *lengths, *[1] * (7 - len(lengths))]
    return lambda content: with_fields(content, dim=dim)


def emptied(content: bytes) -> bytes:
    """Return content whose voxels are all 0, as of a mask in which nothing is drawn."""
    start = header_of(content).get_data_offset()
    return content[:start] + bytes(len(content) - start)


def first_slice_alone(content: bytes) -> bytes:
    """Return content whose voxels are 0 but in the first slice of the last axis."""
    header = header_of(content)
    rows, columns, _ = header.get_data_shape()
    end = header.get_data_offset() + rows * columns * header.get_data_dtype().itemsize
    return content[:end] + bytes(len(content) - end)


def bit_flipped(place: int) -> Callable[[bytes], bytes]:
    """Return what flips a bit of one byte: of a compressed file -8 to -5 are its checksum."""

    def change(content):
        damaged = bytearray(content)
        damaged[place] ^= 4
        return bytes(damaged)

    return change


# --- damage of header and voxels -----------------------------------------------------------------


def extreme_fields(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return content with one to three numbers of the header at an end of what they can hold."""
    header = header_of(content)
    names = [name for name in header if header[name].dtype.kind in "iuf"]
    for name in chance.choices(names, k=chance.choice((1, 1, 2, 3))):
        values = np.array(header[name])
        values.flat[chance.randrange(values.size)] = _extreme(values.dtype, chance)
        header[name] = values
    return header.binaryblock + content[len(header.binaryblock) :]


def _extreme(kind: np.dtype, chance: random.Random) -> float:
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return kind.type(chance.choice(EXTREMES))
    limits = np.iinfo(kind)
    near = [value for value in (-1, 0, 1, 2, 300) if limits.min <= value <= limits.max]
    return chance.choice((limits.min, limits.max, chance.randint(limits.min, limits.max), *near))


def other_lengths(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return content whose header claims longer, shorter, more or exchanged axes."""
    lengths = header_of(content)["dim"][1:4].tolist()
    axis = chance.randrange(3)
    lengths[axis] = chance.choice(
        (lengths[axis] + chance.choice((-1, 1)), 2 * lengths[axis], 1, 0, 2000, 32_767)
    )
    chance.shuffle(lengths)
    more = [chance.choice((2, 300))] if chance.random() < 0.2 else []
    return claiming(*lengths, *more)(content)


def extreme_values(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return content of which some voxels hold other bytes, or numbers that are none."""
    header, damaged = header_of(content), bytearray(content)
    start = len(header.binaryblock) + 4
    kind = header.get_data_dtype()
    for _ in range(chance.choice((1, 4, 64))):
        where = start + kind.itemsize * chance.randrange((len(damaged) - start) // kind.itemsize)
        damaged[where : where + kind.itemsize] = np.array(_extreme(kind, chance), kind).tobytes()
    return bytes(damaged)


# --- damage of the container ---------------------------------------------------------------------


def other_checksum(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return a compressed file with a bit flipped in its checksum or in its length."""
    damaged = bytearray(content)
    damaged[-chance.randrange(1, 9)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def ended_early(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return the beginning of a compressed file, often all but a few bytes."""
    return content[: -chance.randint(1, 12)] if chance.random() < 0.5 else content[:place]


def followed(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return a compressed file with something behind its end."""
    return content + chance.choice(
        (chance.randbytes(chance.randint(1, 5000)), content, gzip.compress(b"\0"), content[:place])
    )


def bomb(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return a compressed file of up to 1 GB of zeros: all that its header claims, or more."""
    inside = gzip.decompress(content)
    size = 2 ** chance.randint(20, BOMB_BYTES.bit_length() - 1)
    if chance.random() < 0.5:
        return _compressed(inside, size)
    rows, header = 2 ** chance.randint(8, 10), header_of(inside)
    depth = max(1, size // header.get_data_dtype().itemsize // rows**2)
    claimed = _finer(claiming(rows, rows, depth)(inside))
    start = header.get_data_offset()
    return _compressed(claimed[:start], rows**2 * depth * header.get_data_dtype().itemsize)


def _finer(content: bytes) -> bytes:
    """Return content whose voxels are a tenth as long, so that a thousand of them fit a body."""
    header = header_of(content)
    pixdim = header["pixdim"] * [1, 0.1, 0.1, 0.1, 1, 1, 1, 1]
    rows = {name: header[name] * [0.1, 0.1, 0.1, 1] for name in ("srow_x", "srow_y", "srow_z")}
    return with_fields(content, pixdim=pixdim, **rows)


def _compressed(content: bytes, zeros: int) -> bytes:
    """Return content and zeros behind it as members of one compressed file."""
    part = min(zeros, 1 << 22)
    return gzip.compress(content, 1) + igzip.compress(bytes(part), 1) * (zeros // part)


def of_members(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return the same content in two members, which is no damage."""
    inside = gzip.decompress(content)
    cut = chance.randrange(len(inside))
    return gzip.compress(inside[:cut], 1) + gzip.compress(inside[cut:], 6)


NIFTI_DAMAGES = {"field": extreme_fields, "lengths": other_lengths, "values": extreme_values}
GZIP_DAMAGES = {
    "checksum": other_checksum,
    "ended": ended_early,
    "followed": followed,
    "bomb": bomb,
    "members": of_members,
}
