"""Between commands and library: programs and their weights, where outputs may go, what is checked first."""
