"""The levels between text and module: resolved program, graph, plan. Data that never changes once it is made."""
