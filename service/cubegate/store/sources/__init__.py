"""Opens each kind of source as an encoded store: native Zarr, Icechunk, kerchunk references, an index."""
