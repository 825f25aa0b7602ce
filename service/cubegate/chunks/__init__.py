"""Encoded chunks: the source seam and the sources behind it."""
