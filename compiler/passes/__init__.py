"""The passes that make a plan of a resolved program: one file a pass; `pipeline.py` lists them."""
