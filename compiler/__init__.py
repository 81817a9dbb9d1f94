"""From syntax trees to a plan: `pipeline.py` is the list of passes. Never imports torch."""
