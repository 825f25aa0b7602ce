"""The encoded store of a cube, its Zarr documents, and the reader and xarray backend over it."""
