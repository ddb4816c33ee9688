"""Maps and pictures of results as they are kept: their files, without any drawing."""
