"""What follows calibration: sensitivity, fine-tuning, saved states."""
