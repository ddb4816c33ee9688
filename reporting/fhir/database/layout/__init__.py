"""How a resource lies in its row: texts kept once, templates, codes by number, sparse indexes."""
