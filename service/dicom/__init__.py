"""DICOM data sets as every reader of ours takes them: one set of rules for what senders get wrong."""
