"""The U-Net: grid, training, segmentation and cleaning."""
