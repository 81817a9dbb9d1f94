"""What an edge brings into a prompt, as tensors, a file for each channel that brings something: text, hidden states, a
fused cache. `kv` brings nothing: what is seen of a cache is in `backends/torch/model/segments.py`.
"""
