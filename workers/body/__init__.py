"""Bodies: content codings undone within limits, digests, MIME types, excerpts."""
