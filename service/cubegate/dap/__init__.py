"""DAP2 (OPeNDAP): what a dataset, a constraint and values look like to its clients."""
