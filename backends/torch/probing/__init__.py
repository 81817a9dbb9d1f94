"""What each edge of a trained team carries, found out by changing it (`masc audit`)."""
