"""STAC: cubes as the collections of a catalog."""
