"""Whether a model can be used, by proof: identities that must hold on it, each with its figure."""
