"""Rows of data: file formats, values, and what is wrong with them."""
