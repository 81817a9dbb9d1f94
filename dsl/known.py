"""Words in the hints of the parser. The compiler declares them; `make generated` writes this file."""

CHANNELS = ("kv", "hidden", "fuse", "text")
ALIGNMENT = "ridge"
"""One that is not the default."""
