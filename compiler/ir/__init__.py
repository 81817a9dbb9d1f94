"""The levels between text and module: resolved program, graph, plan. How they are printed, and what must hold."""
