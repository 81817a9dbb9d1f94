"""Text to syntax tree: grammar, YAML reader, formatter, diagnostics. Never imports torch."""
