"""Phantom volunteers: anatomy, MR signal and DICOM files with known truth."""
