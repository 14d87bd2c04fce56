"""Measures of one subject's labels: area, fat fraction, overlap with manual masks; previews."""
