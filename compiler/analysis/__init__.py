"""What follows from a plan, and what must hold of it."""
