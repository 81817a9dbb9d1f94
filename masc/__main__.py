"""`python -m masc`: the command."""

from masc.cli import main

main()
