"""Chunk caches: the seam and its memory, Redis and tiered implementations."""
