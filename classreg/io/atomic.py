"""Writing without half-written files: into a temporary file beside the target, then one rename.

Must not import: SimpleITK, nibabel, anything above `classreg.errors`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ClassregError, FileError
from .files import path_of, reason, suffix_of


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path in the folder of `path`, with its suffix, that becomes `path` when the block succeeds.

    Readers see the old file or the new one, never a part. When the block raises, the temporary file is
    removed and `path` is left as it was.

    Parameters
    ----------
    path : path
        The file to write; its folder must exist.

    Raises
    ------
    FileError
        If the folder is missing or cannot be written, `path` is a folder, or the system refuses (disk full).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "scan.nii.gz") as temporary:
    ...         _ = temporary.write_text("voxels")
    ...     print(os.listdir(folder), temporary.name.endswith(".nii.gz"))
    ['scan.nii.gz'] True
    """
    path = path_of(path)
    if path.is_dir():
        raise FileError(f"{path} is a folder; give the name of a file")
    temporary = path.with_name(f".{secrets.token_hex(8)}{suffix_of(path)}")
    try:
        # Made here, not by tempfile: the file is to get the permissions that the user's umask gives any file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except (OSError, ValueError) as error:
        raise FileError(f"cannot write in {path.parent}: {reason(error)}; choose a folder that exists and is "
                        "writable") from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, ClassregError):
            raise
        raise FileError(f"cannot write {path}: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def writable_folder(path: str | os.PathLike) -> Path:
    """Make a folder (and its parents) and check that a file can be made in it.

    Parameters
    ----------
    path : path
        The folder; it may exist.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileError
        If it cannot be made or written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(writable_folder(Path(folder) / "a" / "b").is_dir())
    True
    """
    path = path_of(path, "a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{secrets.token_hex(8)}"
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.unlink(probe)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot write in the folder {path}: {reason(error)}; choose another") from error
    return path


@contextlib.contextmanager
def made_folders(*paths: str | os.PathLike) -> Iterator[None]:
    """The folders of files that are written in the block; those that it took and are empty at its end go again.

    Raises
    ------
    FileError
        If one cannot be made or written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with contextlib.suppress(ValueError), made_folders(Path(folder) / "a" / "b.txt"):
    ...         raise ValueError("nothing is written")
    ...     os.listdir(folder)
    []
    """
    parents = [path_of(path).absolute().parent for path in paths]
    made = [folder for parent in parents for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        for parent in parents:
            writable_folder(parent)
        yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike, former: Sequence[str]) -> Iterator[Path]:
    """A folder to write into: what is complete at the end of the block moves to `path`, otherwise nothing does.

    Parameters
    ----------
    path : path
        Where the files belong; made if it is not there.
    former : sequence of str
        Patterns of files that a former result may have left there: those that were not written again are removed.

    Raises
    ------
    FileError
        If the folder cannot be made or written, before the block begins; or if a file cannot be completed.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as there:
    ...     _ = (Path(there) / "b.txt").write_text("of a former result")
    ...     with whole_folder(there, ["*.txt"]) as folder:
    ...         _ = (folder / "a.txt").write_text("new")
    ...     os.listdir(there)
    ['a.txt']
    """
    path = writable_folder(path)
    whole = Path(tempfile.mkdtemp(prefix=".", dir=path))
    try:
        yield whole
        made = {file.relative_to(whole) for file in whole.rglob("*") if file.is_file()}
        for name in sorted(made):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(whole / name, path / name)
        for pattern in former:
            for file in path.glob(pattern):
                if file.relative_to(path) not in made:
                    file.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, ClassregError):
            raise
        raise FileError(f"cannot write in the folder {path}: {reason(error)}; choose another") from error
    finally:
        shutil.rmtree(whole, ignore_errors=True)
