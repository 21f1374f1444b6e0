"""Files in places where other users may write: opened by descriptor, and never through a link of another user.

A run directory has a folder for each of its processes, in which that process alone writes (runtime/paths.py).

A symbolic link of another user must not decide where root writes. A process that starts as root and works for
`run.user` therefore opens that user's files with that user's rights. It opens other files only if every folder of their
path is root's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o700
OUTPUT_MODE = 0o640  # for files that a group may read: output, ledger, quarantine
OUTPUT_UMASK = 0o777 & ~OUTPUT_MODE & ~0o110  # of a process that makes such files, and folders for them
STRANGE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # for a file of another process: follow no link, never block
LONGEST_WAY = 40  # links in the path of a file


def make_folder(path: Path) -> None:
    """Make a private folder unless it exists. Raises OSError."""
    if not path.is_dir():
        path.mkdir(mode=PRIVATE, exist_ok=True)


class FolderBusy(OSError):
    """Another process has the folder."""


def own_folder(path: Path, busy: str) -> int:
    """Open a folder that one process at a time writes; closing the descriptor gives it free.

    Raises FolderBusy, which says `busy` of the other process, and OSError.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise FolderBusy(errno.EBUSY, f"{busy}; name another folder", str(path)) from None
    return folder


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes, in as many calls as the kernel needs. Raises OSError."""
    left = memoryview(data)
    while left:
        count = os.write(descriptor, left)
        if not count:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[count:]


def read_strange(path: Path, most: int) -> bytes:
    """Return up to `most` bytes of a regular file that another process wrote. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | STRANGE)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def write_whole(folder: int, name: str, content: bytes, *, mode: int = 0o600, gid: int | None = None) -> None:
    """Replace a file in an open folder atomically, by a new one that this process made. Raises OSError."""
    part = f"{name}.part"
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | STRANGE, mode, dir_fd=folder)
    try:
        if gid is not None:
            os.fchown(descriptor, -1, gid)
        os.fchmod(descriptor, mode)
        write_all(descriptor, content)
    finally:
        os.close(descriptor)
    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)


@contextmanager
def whole_file(path: str, mode: int = OUTPUT_MODE) -> Iterator[BinaryIO]:
    """Open a new file that replaces the one at this path when the body ends well; else nothing changes there.

    Raises OSError.
    """
    part = f"{path}.part"
    with suppress(FileNotFoundError):
        os.unlink(part)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | STRANGE, mode)
    try:
        with open(descriptor, "wb") as out:
            yield out
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def remove_all(folder: int, *, keep: frozenset[str] = frozenset()) -> None:
    """Remove the content of an open folder, but for some names; follow no link. Raises OSError."""
    for name in os.listdir(folder):
        if name not in keep:
            remove(folder, name)


def remove(folder: int, name: str) -> None:
    """Remove a file, or a folder with its content, in an open folder; follow no link. Raises OSError."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # unlink(2) says EISDIR here and EPERM elsewhere
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | STRANGE, dir_fd=folder)
        try:
            remove_all(inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder)


# -- as another user ---------------------------------------------------------------------------------------------------


@contextmanager
def as_user(uid: int, gid: int) -> Iterator[None]:
    """Run the body with the file rights of this user, without its other groups. Do nothing if that is us."""
    if os.geteuid() == uid:
        yield
        return
    mine, group, groups = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(mine)
        os.setegid(group)
        os.setgroups(groups)


def open_for(path: str, flags: int, mode: int, uid: int, gid: int) -> int:
    """Return a descriptor for writing a file, opened with the rights of a user.

    Where only root has access to the folder, the function makes the file, or opens it, and gives it to that user.
    Raises OSError.
    """
    try:
        with as_user(uid, gid):
            return os.open(path, flags | os.O_CLOEXEC, mode)
    except PermissionError:
        if os.geteuid() != 0 or uid == 0:
            raise
    try:
        return _give(path, flags, mode, uid, gid)
    except PermissionError as fault:
        raise PermissionError(errno.EACCES, f"run.user may not write it; {fault.strerror}", path) from fault


def _give(path: str, flags: int, mode: int, uid: int, gid: int) -> int:
    folder, name = _roots_way(path)
    try:
        with suppress(FileExistsError):
            made = os.open(name, flags | os.O_CREAT | os.O_EXCL | STRANGE, mode, dir_fd=folder)
            os.fchown(made, uid, gid)
            return made
        descriptor = os.open(name, flags & ~(os.O_TRUNC | os.O_CREAT | os.O_EXCL) | STRANGE, dir_fd=folder)
        try:
            about = os.fstat(descriptor)
            # Do not change the owner of a file with another hard link, or of one of ours with content.
            theirs = about.st_uid == uid or (about.st_uid == 0 and not about.st_size)
            if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1 or not theirs:
                raise PermissionError(errno.EACCES, "it has another owner, other links or content", path)
            os.fchown(descriptor, uid, gid)
            if flags & os.O_TRUNC:
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    finally:
        os.close(folder)


def make_folder_for(path: str, mode: int, uid: int, gid: int) -> None:
    """Make a folder with the rights of a user, and the missing folders on its way.

    Where only root has access to the folder above, the function makes it and gives it to that user. Raises OSError:
    FileExistsError if the name is taken.
    """
    try:
        with as_user(uid, gid):
            os.makedirs(path, mode)
            return
    except PermissionError:
        if os.geteuid() != 0 or uid == 0:
            raise
    try:
        _give_folder(path, mode, uid, gid)
    except PermissionError as fault:
        raise PermissionError(errno.EACCES, f"run.user may not write it; {fault.strerror}", path) from fault


def _give_folder(path: str, mode: int, uid: int, gid: int) -> None:
    """Make a folder that only root can redirect, and give it to a user; those on its way stay root's."""
    try:
        folder, name = _roots_way(path)
    except FileNotFoundError:
        _give_folder(os.path.dirname(os.path.abspath(path)), 0o755, 0, 0)
        folder, name = _roots_way(path)
    try:
        os.mkdir(name, mode, dir_fd=folder)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | STRANGE, dir_fd=folder)
        try:
            os.fchown(made, uid, gid)
        finally:
            os.close(made)
    finally:
        os.close(folder)


def _roots_way(path: str) -> tuple[int, str]:
    """Return (descriptor of its folder, its name) of a path that only root can redirect. Raises OSError.

    Folders and links are root's, and no other user may rename anything in them.
    """
    ahead = [part for part in os.path.abspath(path).split("/") if part][::-1]
    links = 0
    stack = [os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        while True:
            name = ahead.pop()
            if name == "..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            if name in ("", "."):
                continue
            _check_root(os.fstat(stack[-1]), path)
            try:
                about = os.stat(name, dir_fd=stack[-1], follow_symlinks=False)
            except FileNotFoundError:
                if ahead:
                    raise
                return stack.pop(), name
            if stat.S_ISLNK(about.st_mode):
                links += 1
                if links > LONGEST_WAY or about.st_uid != 0:
                    raise PermissionError(errno.EACCES, "a link of another user is on the way", path)
                target = os.readlink(name, dir_fd=stack[-1])
                if target.startswith("/"):
                    while len(stack) > 1:
                        os.close(stack.pop())
                ahead += [part for part in target.split("/") if part][::-1]
            elif ahead:
                stack.append(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=stack[-1]))
            else:
                return stack.pop(), name
    finally:
        for descriptor in stack:
            os.close(descriptor)


def _check_root(about: os.stat_result, path: str) -> None:
    others_write = about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX
    if about.st_uid != 0 or others_write:
        raise PermissionError(errno.EACCES, "a folder on the way belongs to another user", path)


class Unusable(Exception):
    """The run cannot start as asked. The text is for a person and says what to change; exit code 2."""
