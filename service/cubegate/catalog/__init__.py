"""Collections as configured, datacubes as opened, and the catalog of both."""
