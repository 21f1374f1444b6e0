"""The recorder process: it keeps the frames that the workers get in a ring of files."""
