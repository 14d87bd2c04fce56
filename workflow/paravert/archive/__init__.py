"""From an archive of images to a subject sheet."""
