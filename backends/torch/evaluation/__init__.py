"""Answering and scoring many rows, the statistics of that, and public data sets (`tasks.py`)."""
