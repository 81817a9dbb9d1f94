"""The language server: what editors ask about a text, as pure functions, and a thin server around them."""
