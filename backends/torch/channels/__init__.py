"""What `text`, `hidden` and `fuse` edges bring into a prompt, as tensors. (A `kv` edge is a view of a segment: see
`engine`.)
"""
