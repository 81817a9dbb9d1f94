"""Files that users name: finding, reading, and writing them so that nothing is lost."""
