"""Reading and writing files that users name, so that nothing is lost."""
