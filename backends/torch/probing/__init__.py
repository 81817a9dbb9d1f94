"""What each edge of a trained team carries."""
