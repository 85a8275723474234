"""The distribution's version; a test compares it with the package's metadata, which takes 20 ms to read."""

VERSION = "0.1.0"
