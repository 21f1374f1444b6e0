"""Streams for your own handler, as gopacket's tcpassembly has them."""

from workers.assembly.assembler import Assembler, DataLost, Flow, Piece, ReaderStream, Stream, StreamPool

__all__ = ["Assembler", "DataLost", "Flow", "Piece", "ReaderStream", "Stream", "StreamPool"]
