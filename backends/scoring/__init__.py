"""Does an answer match the gold answer? Needs neither a model nor torch."""
