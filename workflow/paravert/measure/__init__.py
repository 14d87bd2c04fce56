"""What is measured in the labels of one subject: area, fat fraction, overlap, preview."""
