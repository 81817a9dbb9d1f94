"""What masc shows over HTTP on this machine."""
