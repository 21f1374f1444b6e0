# cython: language_level=3
"""Keeper: keeps what a protocol knows of its connections in memory that outlives the process, for its successor.

The state of a protocol that can do so is one. Its pipeline calls flush() at the end of a batch, and commit() once the batch
cannot come again.
"""
from workers.core.context cimport Context


cdef class Keeper:
    """The base of all keepers: it keeps nothing."""

    def memory_bytes(self, int connections):
        """Return the bytes of memory for this number of connections, in which each has a slot."""
        return 0

    def attach(self, memory not None, allocate not None):
        """Keep connections in this memory, which a predecessor may have filled.

        allocate(slots) gives memory to the first slots, and allocate(0) to what stands before them. If it returns False, there
        is no room, and what it would have given must not be touched.
        """

    cdef int flush(self, Context cx) except -1:
        """Write the connections that have changed."""
        return 0

    cdef int commit(self) noexcept:
        """Note that the batch of the last flush() is finished."""
        return 0


def keeper_of(states):
    """Return the Keeper among the states of protocols; one that keeps nothing if there is none."""
    return next((state for state in states.values() if isinstance(state, Keeper)), Keeper())
