"""Events of TCP connections, whatever their protocol."""
