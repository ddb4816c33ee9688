"""What is done once more: ratings by a new calibration, steps that were given up."""
