"""Builders: whatever describes a cube by byte ranges becomes an index."""
