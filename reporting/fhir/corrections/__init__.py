"""What was written is put right: reports amended, results of rejected photographs taken back."""
