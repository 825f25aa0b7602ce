"""OGC API - EDR and Coverages: what they say of a cube, and what their parameters ask."""
