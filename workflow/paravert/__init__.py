"""Lumbar paravertebral muscles in axial MRI: area, volume and fat fraction of whole cohorts."""

__version__ = "0.2.0"
