"""Output formats: the seam, and one file per format."""
