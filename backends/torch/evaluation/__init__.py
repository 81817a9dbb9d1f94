"""Running and scoring many rows."""
