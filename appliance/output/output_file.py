"""The only module that opens files for a run's results: events, closed files, the ledger."""

from __future__ import annotations

import errno
import os
import stat

from appliance.native.file_identity import STDOUT
from appliance.native.safe_files import OUTPUT_MODE, Unusable, as_user, open_for, write_all

User = tuple[int, int]  # uid, gid

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


def open_output(
    path: str | os.PathLike[str], *, new: bool = False, create: bool = True, user: User | None = None
) -> int:
    """Return a descriptor that appends to the file.

    Raises OSError; ENXIO for a named pipe without a reader. new: the file must not exist. create: make a missing file.
    user: open with the rights of this user.
    """
    flags = FLAGS | (os.O_EXCL if new else 0) | (os.O_CREAT if create else 0)
    return open_for(os.fspath(path), flags, OUTPUT_MODE, *(user or _ourselves()))


def _ourselves() -> User:
    return os.geteuid(), os.getegid()


def verify_writable(path: str, user: User | None = None) -> bool:
    """Verify that results can be written to the path, without changing existing content. Return whether the file is
    new.

    user: check with the rights of this user. Raises OSError.
    """
    if path == "-":
        if not is_writable(STDOUT):
            raise OSError(errno.EBADF, "standard output is closed")
        return False
    with as_user(*(user or _ourselves())):
        try:
            about = os.stat(path)
        except (FileNotFoundError, PermissionError):
            about = None  # open_output reports the reason
        writable = about is not None and os.access(path, os.W_OK, effective_ids=True)
    if about is not None and not stat.S_ISREG(about.st_mode):
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not writable:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return False  # not opened: the reader of a named pipe would see our close as the end
    os.close(open_output(path, user=user))
    return about is None


def remove_if_empty(path: str, user: User | None = None) -> None:
    """Remove a file that `verify_writable` made, if it is still empty."""
    try:
        with as_user(*(user or _ourselves())):
            if os.stat(path).st_size == 0:
                os.unlink(path)
    except OSError:
        pass


def is_writable(descriptor: int) -> bool:
    """Return whether the descriptor is open for writing."""
    import fcntl  # here: rarely needed

    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


def replace(path: str, content: bytes, user: User | None = None) -> None:
    """Replace the content of the file. Raises OSError."""
    descriptor = open_output(path, user=user)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, 0)
        os.set_blocking(descriptor, True)
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def prepare_output(path: str, option: str, user: tuple[int, int] | None = None) -> bool:
    """Verify before the start that results can be written to the path. Return whether the file is new. Raises Unusable.

    user: (uid, gid) of the writer, if that is not us.
    """
    try:
        return verify_writable(path, user)
    except OSError as error:
        raise Unusable(f"{option} {path}: {error.strerror}") from error
