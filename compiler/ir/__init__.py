"""The levels between text and module: resolved program, graph, plan. How each is printed and read back, and what must
hold of it.
"""
