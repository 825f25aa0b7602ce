"""Writes a cube as a store of its own, cut for the reads that are to be fast."""
