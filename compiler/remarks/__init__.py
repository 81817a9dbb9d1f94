"""What becomes of diagnostics before they are told: silenced, left out where they only follow, shortened."""
