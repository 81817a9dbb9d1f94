"""The version of masc."""

__version__ = "0.1.0"
