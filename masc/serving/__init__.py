"""The live page of `masc draw --watch`, over HTTP on this machine."""
