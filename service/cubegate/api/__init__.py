"""What plugins import: the datacube dependency, problems, responses."""
