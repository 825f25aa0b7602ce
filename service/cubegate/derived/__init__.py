"""Variables that are computed when they are read, from those that a store holds."""
