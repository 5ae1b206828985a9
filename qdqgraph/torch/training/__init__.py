"""After calibration: sensitivity, fine-tuning, saved states."""
