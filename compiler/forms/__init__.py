"""Graph and plan as text and as JSON, and read back."""
