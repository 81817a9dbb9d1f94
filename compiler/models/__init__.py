"""Base models as files: where they are, what their config says, what is wrong with them. Never loads weights."""
