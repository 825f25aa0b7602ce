"""Credential providers: the seam and one file per kind."""
