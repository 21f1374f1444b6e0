# cython: language_level=3
"""Large tables of zeros: a page of memory is taken only once it is touched.

calloc(3) promises that only of memory that the heap asks the kernel for just then. A heap that grows in large steps (see
oneself.keep_memory) has it already, and calloc writes its zeros: each process touched some megabytes at its start.
"""

cdef extern from *:
    """
    #include <stddef.h>
    #include <sys/mman.h>
    static inline void* zeroed_pages(size_t count, size_t size) {
        size_t bytes;
        if (__builtin_mul_overflow(count, size, &bytes) || bytes == 0) return NULL;
        void* made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return made == MAP_FAILED ? NULL : made;
    }
    static inline void free_pages(void* made, size_t count, size_t size) {
        if (made != NULL) munmap(made, count * size);
    }
    """
    void* zeroed_pages(size_t count, size_t size) noexcept nogil    # NULL: there is no room
    void free_pages(void* made, size_t count, size_t size) noexcept nogil
