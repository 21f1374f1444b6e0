# cython: language_level=3
"""JA4 and JA3 of a ClientHello."""
from workers.tls.context cimport TlsContext
from workers.tls.hello cimport ClientHello


cdef str ja4(const ClientHello* hello, char transport, TlsContext cx)
cdef str ja3(const ClientHello* hello)
