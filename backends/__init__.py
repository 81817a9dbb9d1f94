"""What a plan becomes: a module that runs (torch) or a picture (diagram)."""
