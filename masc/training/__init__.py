"""`masc train`: from a file to trained weights."""
