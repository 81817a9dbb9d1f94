"""Rows of data: formats, values, and what is wrong with them."""
