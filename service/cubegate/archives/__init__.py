"""What turns the granules of an archive into a cube."""
