"""HL7 version 2: what the hospital's patient registry announces, over MLLP."""
