"""The exact engine: runs a plan for a batch of rows, differentiably."""
