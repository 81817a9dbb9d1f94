"""Text to syntax tree and back: grammar, YAML reader, formatter; the diagnostics of all phases. Never imports torch."""
