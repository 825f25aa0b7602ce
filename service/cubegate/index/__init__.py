"""The compact chunk index: Zarr metadata plus a table from chunks to byte ranges."""
