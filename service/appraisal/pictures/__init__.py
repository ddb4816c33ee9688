"""How results are drawn: what colours mean, the heatmap over the photograph, the triptych."""
