"""Over HTTP: `masc serve`, and the live page of `masc draw --watch`."""
