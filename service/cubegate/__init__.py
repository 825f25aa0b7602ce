"""cubegate: a gateway to virtual datacubes."""

__version__ = "0.1.0"
