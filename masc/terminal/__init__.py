"""What commands print, and errors of other libraries in plain words."""
