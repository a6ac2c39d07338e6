"""Checks on files before they are read: present, not empty, no larger than they can be; and one-line causes.

A header may claim any size; `check_declared` compares the claim with what is stored and with this machine's
memory before anything is allocated: claim <= stored bytes x ratio, where ratio is 1 or gzip's maximum.

Must not import: SimpleITK, nibabel, anything above `classreg.errors`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import FileError

GZIP_RATIO = 1100  # deflate packs at most 1032 bytes into one


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


def existing(path: str | os.PathLike) -> Path:
    """The path of a folder or of a file that is not empty; `FileError` otherwise."""
    path = Path(path)
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
