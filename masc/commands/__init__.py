"""The commands, a file for each kind of work. `masc/cli.py` lists them."""
