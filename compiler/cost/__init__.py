"""What a plan costs before it runs: positions, FLOPs, bytes, and which device it fits (`masc cost`). Pure functions of
a plan, of what `config.json` says and of the lengths of texts.
"""
