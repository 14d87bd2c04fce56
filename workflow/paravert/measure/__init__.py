"""Measures of a subject's labels (area, fat fraction, overlap), their pictures and DICOM files."""
