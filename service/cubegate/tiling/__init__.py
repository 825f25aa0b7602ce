"""Pictures of cubes: which cells a tile or a map shows, in which colours, and what describes them."""
