# cython: language_level=3
"""The table of token characters; grammar.pxd has the rest."""

for c in range(256):
    TOKEN[c] = chr(c) in "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
