"""What a trained team does inside: what each edge carries, found out by changing it (`masc audit`), and what its agents
read, think and attend to while they answer one row (`masc inspect`)."""
