"""Checks on files before they are read: present, whole, no larger than they can be; and one-line causes.

A header may claim any size; `check_declared` compares the claim with what is stored and with this machine's
memory before anything is allocated: claim <= stored bytes x ratio, where ratio is 1 or gzip's maximum.
`check_whole` looks for the end of JPEG and TIFF files, whose decoders make do with a part.

Must not import: SimpleITK, nibabel, anything above `classreg.errors`.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from ..errors import FileError

GZIP_RATIO = 1100  # deflate packs at most 1032 bytes into one

# TIFF: type number -> letter of `struct`; tags of the offsets and of the lengths of strips and of tiles
TIFF_TYPES = dict(zip(range(1, 19), "BBHIQbBhiqfdIBBQqQ"))
TIFF_PIECES = ((273, 279), (324, 325))


def suffix_of(path: str | os.PathLike) -> str:
    """The suffix of a path in lower case, with what stands before ``.gz``.

    Examples
    --------
    >>> suffix_of("sub-01.run.2.NII.gz")
    '.nii.gz'
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def reason(error: Exception) -> str:
    """The cause that a foreign exception states, as one line without source locations."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    stated = [line.split("ERROR:", 1)[1].strip() for line in lines if "ERROR:" in line]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (stated or lines[-1:] or [type(error).__name__])[0]


def path_of(path, what: str = "a file") -> Path:
    """A path, once it is found to be one; `FileError` otherwise."""
    if not isinstance(path, (str, os.PathLike)):
        raise FileError(f"the path of {what} is needed, got {path!r}")
    return Path(path)


def existing(path: str | os.PathLike) -> Path:
    """The path of a folder or of a file that is not empty; `FileError` otherwise."""
    path = path_of(path)
    try:
        info = os.stat(path)
    except FileNotFoundError as error:
        raise FileError(f"there is no file {path}; check the spelling and the working folder") from error
    except (OSError, ValueError) as error:
        raise FileError(f"cannot open {path}: {reason(error)}") from error
    if not os.access(path, os.R_OK):
        raise FileError(f"cannot open {path}: no permission to read it")
    if stat.S_ISDIR(info.st_mode):
        return path
    if not stat.S_ISREG(info.st_mode):
        raise FileError(f"{path} is not a regular file; give an image file or a DICOM folder")
    if info.st_size == 0:
        raise FileError(f"{path} is empty (0 bytes); copy or write it again")
    return path


def physical_memory() -> int | None:
    """Bytes of memory in this machine, None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def check_declared(declared: int, path: str | os.PathLike, ratio: float | None = 1) -> None:
    """Refuse a file whose header claims `declared` bytes of data that it cannot hold, or that memory cannot.

    Parameters
    ----------
    declared : int
        Bytes according to the header.
    path : path
        The file that holds the data.
    ratio : float, optional
        Bytes of data that one stored byte can stand for; None: unknown, only memory is checked.

    Raises
    ------
    FileError
        If the claim is too large.
    """
    stored = os.path.getsize(path)
    if ratio is not None and declared > stored * ratio:
        most = "" if ratio == 1 else f", which hold at most {stored * ratio:,.0f}"
        raise FileError(f"{path} is truncated or its header is wrong: the header declares {declared:,} bytes "
                        f"and the file has {stored:,}{most}; copy or download it again")
    memory = physical_memory()
    if memory is not None and declared > memory:
        raise FileError(f"{path} declares {declared / 2**30:,.1f} GiB of data and this machine has "
                        f"{memory / 2**30:,.1f} GiB of memory; check the header, or crop the image")


def check_whole(path: str | os.PathLike) -> None:
    """Refuse a JPEG or TIFF that ends too early; the decoders would fill with grey, or leave pages out.

    Raises
    ------
    FileError
        If a JPEG has no end marker, or a page of a TIFF, or anything that a page names, lies beyond its end.
    """
    size, suffix = os.path.getsize(path), suffix_of(path)
    with open(path, "rb") as file:
        if suffix in (".jpg", ".jpeg"):
            file.seek(max(0, size - 65536))
            if b"\xff\xd9" not in file.read():
                raise FileError(f"{path} is truncated: it has no JPEG end marker; copy or download it again")
        elif suffix in (".tif", ".tiff"):
            try:
                _walk_tiff(file, size)
            except (EOFError, struct.error) as error:
                raise FileError(f"{path} is truncated or damaged: its pages need more than its {size:,} bytes; "
                                "copy or download it again") from error


def _walk_tiff(file, size: int) -> None:
    """Follow the chain of pages (IFDs) of a TIFF or BigTIFF; EOFError where something lies beyond `size`."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2))
    if order is None:
        return  # no TIFF: the decoder says what it makes of it

    def read(at: int, form: str) -> tuple:
        if at + struct.calcsize(order + form) > size:
            raise EOFError
        file.seek(at)
        return struct.unpack(order + form, file.read(struct.calcsize(order + form)))

    big = read(2, "H") == (43,)
    number, word, width = ("Q", "Q", 8) if big else ("H", "I", 4)
    (page,) = read(width, word)
    seen = set()
    while page and page not in seen:  # a chain that bites its tail ends too
        seen.add(page)
        (entries,) = read(page, number)
        at, pieces = page + struct.calcsize(order + number), {}
        for _ in range(entries):
            tag, kind, count = read(at, "HH" + word)
            form, place = f"{count}{TIFF_TYPES.get(kind, 'B')}", at + 4 + width
            if struct.calcsize(order + form) > width:  # the value stands elsewhere
                (place,) = read(place, word)
            pieces[tag] = read(place, form)
            at += 4 + 2 * width
        for offsets, lengths in TIFF_PIECES:
            ends = map(sum, zip(pieces.get(offsets, ()), pieces.get(lengths, ())))
            if max(ends, default=0) > size:
                raise EOFError
        (page,) = read(at, word)
