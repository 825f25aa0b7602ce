"""xpublish plugins of cubegate, one a file."""
