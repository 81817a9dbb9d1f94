"""Resolving: the syntax trees of all files to one program, every name looked up and every value read."""
