"""The passes that make a plan of a resolved program, one in each file; `compiler/pipeline.py` lists them in order."""
