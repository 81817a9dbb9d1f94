"""What commands and Python share: programs and their weights, where outputs may go, what is checked before a run."""
