"""tinyinit: a tiny init for containers and CI jobs."""

__version__ = "0.1.0"
