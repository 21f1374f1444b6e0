# cython: language_level=3
"""Space on a disk: reserved before it is written, and written without filling the memory of the machine."""
import os

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>

    static int reserve_space(int descriptor, long long length) {
        return fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, length) == 0 ? 0 : errno;
    }
    static void write_soon(int descriptor, long long at, long long length) {
        sync_file_range(descriptor, at, length, SYNC_FILE_RANGE_WRITE);
    }
    static void forget_pages(int descriptor, long long at, long long length) {
        posix_fadvise(descriptor, at, length, POSIX_FADV_DONTNEED);
    }
    """
    int reserve_space(int descriptor, long long length) noexcept nogil
    void write_soon(int descriptor, long long at, long long length) noexcept nogil
    void forget_pages(int descriptor, long long at, long long length) noexcept nogil


def reserve(int descriptor, long long length):
    """Reserve the space of a file up to a length; the file does not grow. Raises OSError."""
    cdef int fault = reserve_space(descriptor, length)
    if fault:
        raise OSError(fault, os.strerror(fault))


def begin_writing(int descriptor, long long at, long long length):
    """Have the kernel write these bytes of a file now, without waiting for it."""
    write_soon(descriptor, at, length)


def forget(int descriptor, long long at, long long length):
    """Let the kernel forget these bytes of a file, which the disk has."""
    forget_pages(descriptor, at, length)
