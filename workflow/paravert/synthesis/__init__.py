"""Phantom volunteers (anatomy, MR signal, DICOM files, known truth), and synthetic slices to train networks on."""
