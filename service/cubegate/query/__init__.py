"""Selections on datasets: positions, bounding boxes, and what they cost; no HTTP."""
