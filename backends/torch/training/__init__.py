"""Training a program: steps, checkpoints, metrics, and runs that go on to the same bits after a kill."""
