"""What commands print, and how errors of other libraries are put in words."""
